#include "services/inference/tokenizer_fit.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/data.h"

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
  const absl::StatusOr<KnownTokenizer> none = CheckTokenizerOf(Checkpoint());
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->digest, "");
  EXPECT_EQ(none->constraints, nullptr);
}

TEST(TokenizerFitTest, ADamagedTokenizerNamesTheFile) {
  Checkpoint checkpoint;
  checkpoint.tokenizer_model = "no protobuf at all";
  checkpoint.tokenizer_file = "models/a/tokenizer.model";
  EXPECT_THAT(std::string(CheckTokenizerOf(checkpoint).status().message()),
              HasSubstr("models/a/tokenizer.model"));
}

TEST(TokenizerFitTest, TheDemoModelFitsItsTokenizer) {
  auto checkpoint = OpenCheckpoint(SourceFile("deploy/models/poem-alpaca"));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const absl::StatusOr<KnownTokenizer> known = CheckTokenizerOf(*checkpoint);
  ASSERT_TRUE(known.ok()) << known.status();
  EXPECT_EQ(known->digest.size(), 64U);
  EXPECT_NE(known->constraints, nullptr);
  checkpoint->config.vocab = 100;
  EXPECT_TRUE(absl::IsFailedPrecondition(CheckTokenizerOf(*checkpoint).status()));
}

}  // namespace
}  // namespace yangtuo
