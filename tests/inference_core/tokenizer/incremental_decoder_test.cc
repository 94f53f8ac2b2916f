#include "inference_core/tokenizer/incremental_decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

#include "inference_core/tokenizer/sentencepiece_library.h"
#include "inference_core/tokenizer/utf8.h"
#include "tests/inference_core/tokenizer/model_builder.h"

namespace yangtuo {
namespace {

class IncrementalDecoderTest : public testing::Test {
 protected:
  IncrementalDecoderTest() : model_(ModelBuilder().Build()), vocabulary_(*ParseModel(model_)) {}

  [[nodiscard]] std::int32_t Id(std::string_view literal) const {
    return vocabulary_.Find(literal).value();
  }
  [[nodiscard]] std::int32_t Byte(int value) const { return kFirstByteId + value; }

  // Feeds ids one by one; what each made complete, and what the end gave.
  [[nodiscard]] std::vector<std::string> Deltas(IncrementalDecoder& decoder,
                                                const std::vector<std::int32_t>& ids) const {
    std::vector<std::string> deltas;
    for (const std::int32_t id : ids) {
      EXPECT_TRUE(decoder.Append(std::span(&id, 1), deltas.emplace_back()).ok());
    }
    decoder.Finish(deltas.emplace_back());
    return deltas;
  }
  [[nodiscard]] std::vector<std::string> Deltas(const std::vector<std::int32_t>& ids) const {
    IncrementalDecoder decoder(vocabulary_);
    return Deltas(decoder, ids);
  }

  std::string model_;
  Vocabulary vocabulary_;
};

using testing::ElementsAre;

TEST_F(IncrementalDecoderTest, HoldsBytesBackUntilTheCharacterIsWhole) {
  EXPECT_THAT(Deltas({Byte(0xE4), Byte(0xBD), Byte(0xA0), Id("b")}),
              ElementsAre("", "", "你", "b", ""));
}

TEST_F(IncrementalDecoderTest, ReplacesAByteAsSoonAsNothingCanCompleteIt) {
  EXPECT_THAT(Deltas({Byte(0xE4), Byte('x'), Byte(0x80)}),
              ElementsAre("", "\xEF\xBF\xBDx", "\xEF\xBF\xBD", ""));
}

TEST_F(IncrementalDecoderTest, ReplacesHeldBytesWhenTheTextEndsOrAnotherPieceFollows) {
  EXPECT_THAT(Deltas({Byte(0xF0), Byte(0x9F), Id("b"), Byte(0xE4)}),
              ElementsAre("", "",
                          "\xEF\xBF\xBD\xEF\xBF\xBD"
                          "b",
                          "", "\xEF\xBF\xBD"));
}

TEST_F(IncrementalDecoderTest, DropsTheFirstSpaceOfAnAnswerThatStartsAfresh) {
  EXPECT_THAT(Deltas({Id("▁a"), Id("▁a")}), ElementsAre("a", " a", ""));
  EXPECT_THAT(Deltas({vocabulary_.bos_id(), Id("▁"), Id("▁a")}), ElementsAre("", "", " a", ""));
}

TEST_F(IncrementalDecoderTest, KeepsTheFirstSpaceOfATextThatContinuesAnother) {
  IncrementalDecoder decoder(vocabulary_);
  const std::vector<std::int32_t> context = {vocabulary_.bos_id(), Id("▁a")};

  ASSERT_TRUE(decoder.SkipContext(context).ok());

  EXPECT_THAT(Deltas(decoder, {Id("▁a"), Id("b")}), ElementsAre(" a", "b", ""));
  EXPECT_EQ(decoder.ids_consumed(), 2);
}

TEST_F(IncrementalDecoderTest, DropsTheFirstSpaceAfterAContextWithoutText) {
  IncrementalDecoder decoder(vocabulary_);
  const std::int32_t bos = vocabulary_.bos_id();

  ASSERT_TRUE(decoder.SkipContext(std::span(&bos, 1)).ok());

  EXPECT_THAT(Deltas(decoder, {Id("▁a")}), ElementsAre("a", ""));
}

TEST_F(IncrementalDecoderTest, CompletesACharacterThatTheContextBegan) {
  IncrementalDecoder decoder(vocabulary_);
  const std::vector<std::int32_t> context = {Id("b"), Byte(0xE4), Byte(0xBD)};

  ASSERT_TRUE(decoder.SkipContext(context).ok());

  EXPECT_THAT(Deltas(decoder, {Byte(0xA0)}), ElementsAre("你", ""));
}

TEST_F(IncrementalDecoderTest, RefusesAnIdOutsideTheVocabularyAndCountsThoseBefore) {
  IncrementalDecoder decoder(vocabulary_);
  const std::vector<std::int32_t> ids = {Id("b"), vocabulary_.size(), Id("b")};
  std::string text;

  const absl::Status status = decoder.Append(ids, text);

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("outside the vocabulary"));
  EXPECT_EQ(text, "b");
  EXPECT_EQ(decoder.ids_consumed(), 1);
  EXPECT_EQ(decoder.Append(std::vector<std::int32_t>{-1}, text).code(),
            absl::StatusCode::kInvalidArgument);
}

// Models whose settings change how they decode.
struct Settings {
  const char* name;
  bool add_dummy_prefix;
  bool remove_extra_whitespaces;
};

class DecodingPropertyTest : public testing::TestWithParam<Settings> {};

TEST_P(DecodingPropertyTest, PiecesOfRandomIdsMakeTheTextThatSentencepieceMakesOfAll) {
  ModelBuilder builder;
  builder.normalizer.set_add_dummy_prefix(GetParam().add_dummy_prefix);
  builder.normalizer.set_remove_extra_whitespaces(GetParam().remove_extra_whitespaces);
  const std::string model = builder.Build();
  const Vocabulary vocabulary = *ParseModel(model);
  const auto library = SentencePieceLibrary::Load();
  ASSERT_TRUE(library.ok()) << library.status();
  const auto oracle = (*library)->CreateModel(model, "model");
  ASSERT_TRUE(oracle.ok()) << oracle.status();
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::int32_t> ids(random() % 24);
    for (std::int32_t& id : ids) {
      // Bytes, half of them of the kind that multi-byte characters are made of, are every other id.
      id = random() % 2 == 0
               ? static_cast<std::int32_t>(random() % 259)
               : static_cast<std::int32_t>(random() % static_cast<unsigned>(vocabulary.size()));
    }
    IncrementalDecoder decoder(vocabulary);
    std::string all;
    for (std::span<const std::int32_t> rest = ids; !rest.empty();) {
      const std::size_t take = 1 + random() % rest.size();
      std::string delta;
      ASSERT_TRUE(decoder.Append(rest.first(take), delta).ok());
      EXPECT_TRUE(IsValidUtf8(delta));
      all += delta;
      rest = rest.subspan(take);
    }
    decoder.Finish(all);
    ASSERT_EQ(all, *oracle->Decode(ids)) << testing::PrintToString(ids);
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, DecodingPropertyTest,
                         testing::Values(Settings{"Llama", true, false},
                                         Settings{"NoDummyPrefix", false, false},
                                         Settings{"RemovesExtraSpaces", true, true},
                                         Settings{"RemovesExtraSpacesOnly", false, true}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace yangtuo
