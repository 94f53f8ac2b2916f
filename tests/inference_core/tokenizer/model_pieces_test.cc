#include "inference_core/tokenizer/model_pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

#include "inference_core/tokenizer/tokenizer.h"
#include "tests/inference_core/tokenizer/golden.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

// <unk>, <s>, </s>, "▁", letters and merges.
std::vector<ModelPiece> SmallPieces() {
  return {{.literal = "<unk>", .type = PieceType::kUnknown},
          {.literal = "<s>", .type = PieceType::kControl},
          {.literal = "</s>", .type = PieceType::kControl},
          {.literal = "\xE2\x96\x81", .score = -5},
          {.literal = "a", .score = -6},
          {.literal = "b", .score = -7},
          {.literal = "ab", .score = -1}};
}

// Every golden text through pieces and settings as GGUF keeps them.
class ThroughGgufPieces : public ::testing::TestWithParam<const char*> {};

TEST_P(ThroughGgufPieces, EveryGoldenTextEncodesToTheSameIds) {
  const auto file = SharedData(std::string("tokenizers/") + GetParam() + ".model");
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto found = ReadModelPieces(ReadTestFile(*file), "it");
  ASSERT_TRUE(found.ok()) << found.status();
  const auto model = MakeBpeModel(found->pieces, {}, "made of pieces");
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokenizer = Tokenizer::FromModel(*model, {}, "made of pieces");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const GoldenCase& golden : ReadGolden(std::string("encode-") + GetParam())) {
    EXPECT_EQ(*(*tokenizer)->Encode(golden.text), golden.ids) << golden.label;
  }
}

INSTANTIATE_TEST_SUITE_P(Tokenizers, ThroughGgufPieces,
                         ::testing::Values("llama", "chinese-llama", "chinese-alpaca",
                                           "chinese-llama-2"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(MakeBpeModelTest, MergesByScore) {
  const auto model = MakeBpeModel(SmallPieces(), {.add_dummy_prefix = false}, "small");
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokenizer = Tokenizer::FromModel(*model, {}, "small");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("abba"), ::testing::ElementsAre(6, 5, 4));
  EXPECT_THAT(*(*tokenizer)->Encode("a b"), ::testing::ElementsAre(4, 3, 5));
}

TEST(MakeBpeModelTest, PutsASpaceInFrontUnlessToldNotTo) {
  const auto model = MakeBpeModel(SmallPieces(), {}, "small");
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokenizer = Tokenizer::FromModel(*model, {}, "small");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("ab"), ::testing::ElementsAre(3, 6));
}

TEST(MakeBpeModelTest, RefusesSpecialTokensOutsideTheVocabulary) {
  const auto model = MakeBpeModel(SmallPieces(), {.eos_id = 7}, "x.gguf");
  EXPECT_EQ(model.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(model.status().message()),
              HasSubstr("x.gguf: the end-of-text token is 7"));
}

TEST(MakeBpeModelTest, RefusesSomeByteTokensWithoutTheOthers) {
  std::vector<ModelPiece> pieces = SmallPieces();
  pieces.push_back({.literal = "<0x0A>", .type = PieceType::kByte});
  const auto model = MakeBpeModel(pieces, {}, "x.gguf");
  EXPECT_EQ(model.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(model.status().message()), HasSubstr("1 byte tokens"));
}

TEST(ReadModelPiecesTest, GivesBackWhatAModelWasMadeOf) {
  const auto model = MakeBpeModel(SmallPieces(), {}, "small");
  const auto found = ReadModelPieces(*model, "small");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->algorithm, PieceAlgorithm::kBpe);
  EXPECT_EQ(found->pieces, SmallPieces());
}

TEST(ReadModelPiecesTest, NamesWhatIsNoModel) {
  EXPECT_THAT(std::string(ReadModelPieces("version https://git-lfs", "t.model").status().message()),
              HasSubstr("t.model: expected a sentencepiece model"));
}

TEST(PieceTypeTest, NumbersGoBothWays) {
  for (std::int32_t number = 1; number <= 6; ++number) {
    ASSERT_TRUE(PieceTypeOf(number).has_value()) << number;
    EXPECT_EQ(PieceTypeNumber(*PieceTypeOf(number)), number);
  }
  EXPECT_FALSE(PieceTypeOf(0).has_value());
  EXPECT_FALSE(PieceTypeOf(7).has_value());
}

}  // namespace
}  // namespace yangtuo
