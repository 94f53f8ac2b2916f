#include "inference_core/tokenizer/merge_tokenizers.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <random>

#include "inference_core/base/sha256.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kSpace[] = "\xE2\x96\x81";

std::vector<ModelPiece> BasePieces() {
  return {{.literal = "<unk>", .type = PieceType::kUnknown},
          {.literal = "<s>", .type = PieceType::kControl},
          {.literal = "</s>", .type = PieceType::kControl},
          {.literal = kSpace, .score = -5},
          {.literal = "a", .score = -6},
          {.literal = "b", .score = -7},
          {.literal = "c", .score = -8},
          {.literal = "ab", .score = -1},
          {.literal = "abc", .score = -2}};
}

std::string BaseModel() { return *MakeBpeModel(BasePieces(), {}, "base"); }

std::vector<std::int32_t> Ids(const Tokenizer& tokenizer, const std::string& text) {
  auto ids = tokenizer.Encode(text);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *std::move(ids) : std::vector<std::int32_t>{};
}

PieceSource Words(const std::string& text) { return *PiecesOfWords(text, "words"); }

class PublishedTokenizersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto folder = SharedData("tokenizers");
    if (!folder.has_value()) {
      GTEST_SKIP() << "no shared data";
    }
    base_ = ReadTestFile(*folder / "llama.model");
    other_ = ReadTestFile(*folder / "chinese_sp.model");
  }

  std::string base_;
  std::string other_;
};

TEST_F(PublishedTokenizersTest, ChineseLlamaIsReproducedToTheByte) {
  const auto merge =
      MergeTokenizers(base_, "llama.model", {*PiecesOfModel(other_, "chinese_sp.model")}, "");
  ASSERT_TRUE(merge.ok()) << merge.status();
  EXPECT_EQ(Sha256Hex(merge->model),
            "e2676d4ca29ca1750f6ff203328d73b189321dc5776ceede037cbd36541d70c0");
  EXPECT_EQ(merge->base_pieces, 32000);
  EXPECT_EQ(merge->added.size(), 17953U);
  EXPECT_EQ(merge->added.front(), "但");
  EXPECT_EQ(merge->duplicates + merge->passed_over, 2047);
  EXPECT_EQ(merge->passed_over, 3);
}

TEST_F(PublishedTokenizersTest, ChineseAlpacaIsReproducedToTheByte) {
  const auto merge =
      MergeTokenizers(base_, "llama.model", {*PiecesOfModel(other_, "chinese_sp.model")}, "[PAD]");
  ASSERT_TRUE(merge.ok()) << merge.status();
  EXPECT_EQ(Sha256Hex(merge->model),
            "2d967e855b1213a439df6c8ce2791f869c84b4f3b6cfacf22b86440b8192a2f8");
  EXPECT_EQ(merge->added.size(), 17954U);
}

// No id that is called unreachable comes out of any text at hand.
TEST_F(PublishedTokenizersTest, UnreachablePiecesNeverComeOutOfRealText) {
  const auto merge =
      MergeTokenizers(base_, "llama.model", {*PiecesOfModel(other_, "chinese_sp.model")}, "[PAD]");
  ASSERT_TRUE(merge.ok()) << merge.status();
  const auto tokenizer = Tokenizer::FromModel(merge->model, {}, "merged");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<bool> seen(static_cast<std::size_t>((*tokenizer)->vocabulary().size()));
  for (const char* file :
       {"text/modern/rust-book-zh.txt", "text/classics/tangshi300.txt", "text/modern/d2l-zh.txt"}) {
    for (const std::int32_t id : Ids(**tokenizer, ReadTestFile(*SharedData(file)))) {
      seen[static_cast<std::size_t>(id)] = true;
    }
  }
  for (const std::vector<std::int32_t>* ids : {&merge->unreachable, &merge->hidden}) {
    for (const std::int32_t id : *ids) {
      EXPECT_FALSE(seen[static_cast<std::size_t>(id)])
          << id << " " << (*tokenizer)->vocabulary().piece(id).literal;
    }
  }
}

// Hanzi counts aside, what the published files say of 1,557 texts.
TEST_F(PublishedTokenizersTest, TokenCountsAreThePublishedOnes) {
  const auto merge =
      MergeTokenizers(base_, "llama.model", {*PiecesOfModel(other_, "chinese_sp.model")}, "");
  ASSERT_TRUE(merge.ok()) << merge.status();
  const auto before = Tokenizer::FromModel(base_, {}, "base");
  const auto after = Tokenizer::FromModel(merge->model, {}, "merged");
  ASSERT_TRUE(before.ok() && after.ok());
  std::ifstream cells(*SharedData("golden/efficiency_cells.jsonl"));
  int compared = 0;
  for (std::string line; std::getline(cells, line); ++compared) {
    const auto cell = nlohmann::json::parse(line);
    const std::string text = cell["text"];
    EXPECT_EQ(Ids(**before, text).size(), cell["llama"].get<std::size_t>()) << text;
    EXPECT_EQ(Ids(**after, text).size(), cell["chinese-llama"].get<std::size_t>()) << text;
  }
  EXPECT_GT(compared, 1500);
}

TEST(MergeTokenizersTest, AddsWhatIsNewOnceAndInOrder) {
  const auto merge =
      MergeTokenizers(BaseModel(), "base", {Words("cab\nab\nbc\ncab\n"), Words("ca")}, "[PAD]");
  ASSERT_TRUE(merge.ok()) << merge.status();
  EXPECT_THAT(merge->added, ElementsAre("cab", "bc", "ca", "[PAD]"));
  EXPECT_EQ(merge->duplicates, 2);
  const auto pieces = ReadModelPieces(merge->model, "merged");
  EXPECT_EQ(pieces->pieces.size(), BasePieces().size() + 4);
  EXPECT_EQ(pieces->pieces.back().literal, "[PAD]");
  EXPECT_EQ(pieces->pieces.back().score, 0);
}

TEST(MergeTokenizersTest, NamesPiecesThatNoTextEncodesTo) {
  // "bca" has no way up: bc is no piece, and ca is none.
  const auto merge = MergeTokenizers(BaseModel(), "base", {Words("bca\nabca")}, "");
  ASSERT_TRUE(merge.ok()) << merge.status();
  EXPECT_THAT(merge->unreachable, ElementsAre(9));
  EXPECT_THAT(merge->hidden, IsEmpty());
}

TEST(MergeTokenizersTest, NamesPiecesOfTheBaseThatAnAddedOneNowBeats) {
  std::vector<ModelPiece> pieces = BasePieces();
  pieces.pop_back();  // abc
  pieces.push_back({.literal = "ca", .score = -3});
  pieces.push_back({.literal = "abca", .score = -4});  // ab + ca
  const std::string base = *MakeBpeModel(pieces, {}, "base");
  // Now b and c merge first, and neither "abc" nor "bca" is a piece.
  const auto merge = MergeTokenizers(base, "base", {Words("bc")}, "");
  ASSERT_TRUE(merge.ok()) << merge.status();
  EXPECT_THAT(merge->hidden, ElementsAre(9));
  EXPECT_THAT(merge->unreachable, IsEmpty());
}

// The claim behind UnreachablePieces, against sentencepiece itself on all short texts.
TEST(UnreachablePiecesTest, AreExactlyThosePiecesThatNoShortTextEncodesTo) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<ModelPiece> pieces = BasePieces();
    pieces.resize(7);  // up to the letters
    std::vector<std::string> literals;
    for (int i = 0; i < 8; ++i) {
      std::string literal;
      const int length = 2 + static_cast<int>(random() % 3);
      for (int k = 0; k < length; ++k) {
        literal += "abc"[random() % 3];
      }
      if (std::find(literals.begin(), literals.end(), literal) == literals.end()) {
        literals.push_back(literal);
        pieces.push_back(
            {.literal = literal, .score = -static_cast<float>(random() % 5)});  // ties too
      }
    }
    const auto model = MakeBpeModel(pieces, {.add_dummy_prefix = false}, "random");
    const auto tokenizer = Tokenizer::FromModel(*model, {}, "random");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::vector<bool> seen(pieces.size());
    for (int code = 0; code < 3 * 3 * 3 * 3 * 3 * 3; ++code) {
      std::string text;
      for (int rest = code, k = 0; k < 6; ++k, rest /= 3) {
        text += "abc"[rest % 3];
        for (const std::int32_t id : Ids(**tokenizer, text)) {
          seen[static_cast<std::size_t>(id)] = true;
        }
      }
    }
    std::vector<std::int32_t> never;
    for (std::size_t id = 4; id < pieces.size(); ++id) {
      if (!seen[id]) {
        never.push_back(static_cast<std::int32_t>(id));
      }
    }
    EXPECT_EQ(UnreachablePieces(pieces), never) << "round " << round;
  }
}

TEST(MergeTokenizersTest, RefusesABaseOfAnotherAlgorithm) {
  const auto other = SharedData("tokenizers/chinese_sp.model");
  if (!other.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const auto merge = MergeTokenizers(ReadTestFile(*other), "chinese_sp.model", {Words("羊驼")}, "");
  EXPECT_EQ(merge.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(merge.status().message()), HasSubstr("expected a LLaMA tokenizer"));
}

TEST(PiecesOfWordsTest, ReadsOneWordALine) {
  const auto words =
      PiecesOfWords("\xEF\xBB\xBF羊驼\r\n\n  large model \n\xE2\x96\x81word", "w.txt");
  ASSERT_TRUE(words.ok()) << words.status();
  EXPECT_THAT(words->literals, ElementsAre("羊驼", std::string("large") + kSpace + "model",
                                           std::string(kSpace) + "word"));
}

TEST(PiecesOfWordsTest, NamesTheLineThatIsWrong) {
  EXPECT_THAT(std::string(PiecesOfWords("羊驼\n\xD1\xF2\n", "w.txt").status().message()),
              HasSubstr("w.txt: line 2 is not UTF-8"));
  EXPECT_THAT(std::string(PiecesOfWords("a\tb", "w.txt").status().message()),
              HasSubstr("w.txt: line 1 has a control character"));
  EXPECT_THAT(std::string(PiecesOfWords(" \n\n", "w.txt").status().message()),
              HasSubstr("found none"));
}

}  // namespace
}  // namespace yangtuo
