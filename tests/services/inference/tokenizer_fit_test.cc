#include "services/inference/tokenizer_fit.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

TEST(TokenizerFitTest, FewerPiecesThanRowsFit) {
  EXPECT_TRUE(CheckTokenizerFit(49953, 49954, "t").ok());
  EXPECT_TRUE(CheckTokenizerFit(512, 512, "t").ok());
}

TEST(TokenizerFitTest, ATokenizerLargerThanTheEmbeddingIsRefusedWithWhatBelongsTogether) {
  const std::string text(CheckTokenizerFit(55296, 49954, "m/tokenizer.model").message());
  EXPECT_THAT(text, HasSubstr("m/tokenizer.model has 55296 pieces"));
  EXPECT_THAT(text, HasSubstr("only 49954 rows"));
  EXPECT_THAT(text, HasSubstr("55296 pieces are Chinese-LLaMA-2's"));
  EXPECT_THAT(text, HasSubstr("49954 rows are Chinese-Alpaca, whose tokenizer has 49953 pieces"));
}

TEST(TokenizerFitTest, AModelWithoutTokenizerHasNoDigest) {
  const TempDir folder;
  const absl::StatusOr<std::string> digest = CheckTokenizerOf(folder.path(), 10);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, "");
}

TEST(TokenizerFitTest, ADamagedTokenizerNamesTheFile) {
  const TempDir folder;
  WriteTestFile(folder.path() / "tokenizer.model", "no protobuf at all");
  EXPECT_THAT(std::string(CheckTokenizerOf(folder.path(), 10).status().message()),
              HasSubstr("tokenizer.model"));
}

TEST(TokenizerFitTest, TheDemoModelFitsItsTokenizer) {
  const auto model = SourceFile("deploy/models/poem-alpaca");
  EXPECT_EQ(CheckTokenizerOf(model, 6001).value_or("").size(), 64U);
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckTokenizerOf(model, 100).status()));
}

}  // namespace
}  // namespace yangtuo
