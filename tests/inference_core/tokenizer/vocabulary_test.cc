#include "inference_core/tokenizer/vocabulary.h"

#include <algorithm>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <optional>
#include <random>

#include "inference_core/base/sha256.h"
#include "inference_core/tokenizer/sentencepiece_library.h"
#include "tests/inference_core/tokenizer/model_builder.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

using testing::HasSubstr;

void ExpectDamaged(std::string_view model, const std::string& reason) {
  const auto parsed = ParseModel(model);
  ASSERT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss) << parsed.status();
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr("test.model"));
  EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(reason));
}

TEST(VocabularyTest, KnowsEveryPiecesTextAndType) {
  const std::string model = ModelBuilder().Build();
  const Vocabulary vocabulary = *ParseModel(model);

  EXPECT_EQ(vocabulary.bos_id(), 1);
  EXPECT_EQ(vocabulary.eos_id(), 2);
  EXPECT_EQ(vocabulary.digest(), Sha256Hex(model));
  EXPECT_EQ(vocabulary.piece(0).text, " \xE2\x81\x87 ");
  EXPECT_EQ(vocabulary.piece(1).text, "");
  EXPECT_EQ(vocabulary.piece(kFirstByteId + 10).text, "\n");
  EXPECT_EQ(vocabulary.piece(kFirstByteId).text, std::string(1, '\0'));
  EXPECT_EQ(vocabulary.piece(*vocabulary.Find("▁你")).text, " 你");
  EXPECT_EQ(vocabulary.piece(*vocabulary.Find("▁▁")).text, "  ");
  EXPECT_FALSE(vocabulary.Find("absent").has_value());
}

TEST(VocabularyTest, KnowsHowManyBytesATokenStandsForAtMost) {
  ModelBuilder builder;
  Vocabulary vocabulary = *ParseModel(builder.Build());
  ASSERT_TRUE(vocabulary.longest_token_bytes().has_value());
  std::size_t longest = 0;
  for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
    longest = std::max(longest, vocabulary.piece(id).literal.size());
  }
  EXPECT_EQ(vocabulary.longest_token_bytes(), longest);
  vocabulary.Add(std::string(100, 'x'));
  EXPECT_EQ(vocabulary.longest_token_bytes(), 100U);
  // A run of characters that are unknown is one token then, however long.
  builder.trainer.set_byte_fallback(false);
  EXPECT_EQ(ParseModel(builder.Build())->longest_token_bytes(), std::nullopt);
}

TEST(VocabularyTest, RefusesWhatIsNoModel) {
  ExpectDamaged("", "found 0 bytes");
  ExpectDamaged("version https://git-lfs.github.com/spec/v1", "git-lfs");
  const std::string model = ModelBuilder().Build();
  ExpectDamaged(std::string_view(model).substr(0, model.size() - 3), "expected a sentencepiece");
}

TEST(VocabularyTest, RefusesPiecesThatSentencepieceWouldTrust) {
  ModelBuilder twice;
  twice.Add("ab");
  ExpectDamaged(twice.Build(), "\"ab\" is there twice");
  ModelBuilder empty;
  empty.Add("");
  ExpectDamaged(empty.Build(), "piece 271: it is empty");
  ModelBuilder nul;
  nul.Add(std::string_view("x\0y", 3));
  ExpectDamaged(nul.Build(), "piece 271");
  ModelBuilder byte;
  byte.Add("<0xGG>", spm::SentencePiece::BYTE);
  ExpectDamaged(byte.Build(), "<0x00>..<0xFF>");
  ModelBuilder score;
  score.model.mutable_pieces(260)->set_score(std::numeric_limits<float>::quiet_NaN());
  ExpectDamaged(score.Build(), "score is not a number");
  ModelBuilder unknown;
  unknown.Add("<unk2>", spm::SentencePiece::UNKNOWN);
  ExpectDamaged(unknown.Build(), "found 2 unknown pieces");
  ModelBuilder begin;
  begin.trainer.set_bos_piece("<bos>");
  ExpectDamaged(begin.Build(), "no begin of text");
}

TEST(VocabularyTest, RefusesADenormalizer) {
  ModelBuilder builder;
  spm::NormalizerSpec denormalizer;
  denormalizer.set_precompiled_charsmap("xxxx");
  builder.model.set_denormalizer_spec(denormalizer.SerializeAsString());

  EXPECT_EQ(ParseModel(builder.Build()).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(VocabularyTest, RefusesANormalizerThatPointsOutOfItself) {
  ModelBuilder builder;
  builder.normalizer.set_precompiled_charsmap("abc");
  ExpectDamaged(builder.Build(), "hold no trie");

  const std::uint32_t trie_bytes = 1024;
  std::string charsmap(4 + trie_bytes, '\0');
  std::memcpy(charsmap.data(), &trie_bytes, sizeof(trie_bytes));
  charsmap += std::string("ab\0", 3);
  builder.normalizer.set_precompiled_charsmap(charsmap);
  EXPECT_TRUE(ParseModel(builder.Build()).ok()) << "an empty trie is sound";

  const auto with_unit = [&](std::uint32_t unit) {
    std::string damaged = charsmap;
    std::memcpy(damaged.data() + 4, &unit, sizeof(unit));
    builder.normalizer.set_precompiled_charsmap(damaged);
    return builder.Build();
  };
  EXPECT_TRUE(ParseModel(with_unit((1U << 31) | 2)).ok());
  ExpectDamaged(with_unit((1U << 31) | 3), "points behind the replacements");
  ExpectDamaged(with_unit(256U << 10), "points out of the trie");
}

TEST(VocabularyTest, AcceptsEveryTokenizerOfTheSharedData) {
  for (const char* name :
       {"llama", "chinese_sp", "chinese-llama", "chinese-alpaca", "chinese-llama-2"}) {
    const auto file = SharedData(std::string("tokenizers/") + name + ".model");
    if (!file.has_value()) {
      GTEST_SKIP() << "no shared data";
    }
    EXPECT_TRUE(ParseModel(ReadTestFile(*file)).ok()) << name;
  }
}

// The bytes of a model survive our schema, so that a merged tokenizer gets its published digest.
TEST(SchemaTest, KeepsTheBytesOfAParsedModel) {
  const auto file = SharedData("tokenizers/chinese-alpaca.model");
  if (!file.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const std::string bytes = ReadTestFile(*file);
  spm::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(bytes));

  EXPECT_EQ(Sha256Hex(model.SerializeAsString()),
            "2d967e855b1213a439df6c8ce2791f869c84b4f3b6cfacf22b86440b8192a2f8");
}

// A damaged model either is refused, or encodes and decodes without leaving its memory.
TEST(DamagedModelTest, NeverCrashesTheProcess) {
  const auto library = SentencePieceLibrary::Load();
  ASSERT_TRUE(library.ok()) << library.status();
  const std::string model = ModelBuilder().Build();
  std::mt19937 random(11);
  int num_refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = model;
    for (std::size_t flips = 1 + random() % 3; flips > 0; --flips) {
      // Mostly in the settings at the end, where a byte means more.
      const std::size_t tail = random() % 2 == 0 ? damaged.size() : 60;
      damaged[damaged.size() - 1 - random() % tail] = static_cast<char>(random());
    }
    const auto vocabulary = ParseModel(damaged);
    const auto loaded =
        vocabulary.ok() ? (*library)->CreateModel(damaged, "damaged.model") : vocabulary.status();
    if (!loaded.ok()) {
      ++num_refused;
      continue;
    }
    std::vector<std::int32_t> ids;
    if (!loaded->Encode("ab  a你好\xFF<s> abab", ids).ok()) {
      continue;  // e.g. pieces that no longer cover a text: an error of that call
    }
    for (const std::int32_t id : ids) {
      EXPECT_TRUE(vocabulary->Contains(id));
    }
  }
  EXPECT_GT(num_refused, 300);
}

}  // namespace
}  // namespace yangtuo
