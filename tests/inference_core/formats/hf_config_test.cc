#include "inference_core/formats/hf_config.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/tensor/dtype.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json TinyJson() { return json::parse(EncodeConfig(TinyLlamaConfig(), DType::kF32)); }

// The tiny model's configuration with some keys replaced ("x": null removes x).
absl::StatusOr<LlamaConfig> ParseWith(const json& changes) {
  json config = TinyJson();
  config.merge_patch(changes);
  return ParseLlamaConfig(config.dump(), "config.json");
}

TEST(HfConfigTest, ReadsEveryField) {
  LlamaConfig config = TinyLlamaConfig();
  config.norm_eps = 1e-5F;
  config.rope_theta = 500000.0F;
  config.rope_linear_factor = 4.0F;
  config.tied_embeddings = true;
  config.bos_id = 3;
  config.eos_ids = {5, 7};
  const auto parsed = ParseLlamaConfig(EncodeConfig(config, DType::kBF16), "config.json");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->Canonical(), config.Canonical());
}

TEST(HfConfigTest, FillsInWhatOldConfigurationsLeaveOut) {
  const auto parsed = ParseLlamaConfig(
      R"({"architectures": ["LLaMAForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
          "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 49953})",
      "config.json");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->kv_heads, 32);
  EXPECT_EQ(parsed->head_dim, 128);
  EXPECT_EQ(parsed->context_tokens, 2048);
  EXPECT_EQ(parsed->norm_eps, 1e-6F);
  EXPECT_EQ(parsed->rope_theta, 10000.0F);
  EXPECT_EQ(parsed->rope_linear_factor, 1.0F);
  EXPECT_FALSE(parsed->tied_embeddings);
  EXPECT_EQ(parsed->bos_id, 1);
  EXPECT_THAT(parsed->eos_ids, ElementsAre(2));
}

TEST(HfConfigTest, TakesAHeadDimThatHiddenDoesNotGive) {
  const auto parsed = ParseWith({{"head_dim", 16}});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->head_dim, 16);
}

TEST(HfConfigTest, TakesOneEndIdOrAListOrNone) {
  EXPECT_THAT(ParseWith({{"eos_token_id", 9}})->eos_ids, ElementsAre(9));
  EXPECT_THAT(ParseWith({{"eos_token_id", {9, 4, 9}}})->eos_ids, ElementsAre(9, 4));
  EXPECT_THAT(ParseWith({{"eos_token_id", json::array()}})->eos_ids, IsEmpty());
}

TEST(HfConfigTest, ReadsRopeSettingsOfEveryVintage) {
  EXPECT_EQ(ParseWith({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}})->rope_linear_factor,
            2.0F);
  EXPECT_EQ(
      ParseWith({{"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}}})->rope_linear_factor,
      4.0F);
  EXPECT_EQ(ParseWith({{"rope_scaling", {{"rope_type", "default"}}}})->rope_linear_factor, 1.0F);
  const auto parsed =
      ParseWith({{"rope_theta", nullptr},
                 {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 250000}}}});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->rope_theta, 250000.0F);
}

// One fault: what is changed in the tiny configuration, and what the error must say.
struct Fault {
  std::string name;
  json changes;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
  std::string words;
};
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class HfConfigFaultTest : public ::testing::TestWithParam<Fault> {};

TEST_P(HfConfigFaultTest, NamesFileAndKey) {
  const absl::Status status = ParseWith(GetParam().changes).status();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("config.json"), HasSubstr(GetParam().words)));
}

constexpr auto kUnsupported = absl::StatusCode::kUnimplemented;
constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

INSTANTIATE_TEST_SUITE_P(
    Faults, HfConfigFaultTest,
    ::testing::Values(
        Fault{"OtherModel", {{"model_type", "mistral"}}, kUnsupported, "\"mistral\""},
        Fault{"OtherHead",
              {{"architectures", {"LlamaForSequenceClassification"}}},
              kUnsupported,
              "LlamaForSequenceClassification"},
        Fault{"ModelOfWrongType", {{"model_type", 3}}, kInvalid, "found 3"},
        Fault{"NoModel",
              {{"model_type", nullptr}, {"architectures", nullptr}},
              kInvalid,
              "model_type"},
        Fault{"OtherActivation", {{"hidden_act", "gelu"}}, kUnsupported, "hidden_act"},
        Fault{"AttentionBias", {{"attention_bias", true}}, kUnsupported, "attention_bias"},
        Fault{"MlpBias", {{"mlp_bias", true}}, kUnsupported, "mlp_bias"},
        Fault{"Quantized",
              {{"quantization_config", {{"bits", 4}}}},
              kUnsupported,
              "quantization_config"},
        Fault{"OtherRope",
              {{"rope_scaling", {{"type", "yarn"}, {"factor", 16.0}}}},
              kUnsupported,
              "yarn"},
        Fault{"RopeWithoutFactor", {{"rope_scaling", {{"type", "linear"}}}}, kInvalid, "factor"},
        Fault{"RopeFactorZero",
              {{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}},
              kInvalid,
              "factor"},
        Fault{"RopeWithoutType", {{"rope_scaling", {{"factor", 2.0}}}}, kInvalid, "rope_type"},
        Fault{"RopeOfWrongType", {{"rope_scaling", "linear"}}, kInvalid, "rope_scaling"},
        Fault{"NoHidden", {{"hidden_size", nullptr}}, kInvalid, "found nothing"},
        Fault{"HiddenZero", {{"hidden_size", 0}}, kInvalid, "found 0"},
        Fault{"HiddenNegative", {{"hidden_size", -32}}, kInvalid, "found -32"},
        Fault{"HiddenText", {{"hidden_size", "32"}}, kInvalid, "found \"32\""},
        Fault{"HiddenFraction", {{"hidden_size", 32.0}}, kInvalid, "found 32.0"},
        Fault{"HiddenHuge", {{"hidden_size", 1U << 31}}, kInvalid, "65536"},
        Fault{"LayersBeyond64Bits", {{"num_hidden_layers", UINT64_MAX}}, kInvalid, "1844"},
        Fault{"HeadsDoNotDivide",
              {{"num_attention_heads", 5}, {"num_key_value_heads", 5}, {"head_dim", nullptr}},
              kInvalid,
              "multiple of num_attention_heads (5)"},
        Fault{"GroupsDoNotDivide",
              {{"num_key_value_heads", 3}},
              kInvalid,
              "divisor of num_attention_heads (4)"},
        Fault{"MoreGroupsThanHeads", {{"num_key_value_heads", 8}}, kInvalid, "found 8"},
        Fault{"OddHeadDim", {{"head_dim", 7}}, kInvalid, "even"},
        Fault{"HugeHeadDim",
              {{"hidden_size", 65536},
               {"num_attention_heads", 1},
               {"num_key_value_heads", 1},
               {"head_dim", nullptr}},
              kInvalid,
              "give 65536"},
        Fault{"HugeVocab", {{"vocab_size", 1 << 23}}, kInvalid, "vocab_size"},
        Fault{"EpsilonZero", {{"rms_norm_eps", 0}}, kInvalid, "rms_norm_eps"},
        Fault{"EpsilonTooSmallForAFloat", {{"rms_norm_eps", 1e-300}}, kInvalid, "1e-300"},
        Fault{"ThetaNegative", {{"rope_theta", -1.0}}, kInvalid, "rope_theta"},
        Fault{"ThetaText", {{"rope_theta", "1e4"}}, kInvalid, "rope_theta"},
        Fault{"TiedText", {{"tie_word_embeddings", "yes"}}, kInvalid, "true or false"},
        Fault{"BeginOutsideOfVocab", {{"bos_token_id", 64}}, kInvalid, "from 0 to 63"},
        Fault{"EndOutsideOfVocab", {{"eos_token_id", {2, 64}}}, kInvalid, "from 0 to 63"},
        Fault{"EndText", {{"eos_token_id", "</s>"}}, kInvalid, "eos_token_id"}),
    [](const ::testing::TestParamInfo<Fault>& tested) { return tested.param.name; });

TEST(HfConfigTest, RefusesTextThatIsNotAnObject) {
  for (const std::string_view text : {"", "[]", "{", "null", "{\"a\": 1} x", "\xFF\xFE{}"}) {
    const absl::Status status = ParseLlamaConfig(text, "config.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
  }
}

TEST(HfConfigTest, RefusesAKeyThatAppearsTwice) {
  std::string text = TinyJson().dump();
  text.insert(1, R"("vocab_size":100,)");
  const absl::Status status = ParseLlamaConfig(text, "config.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("\"vocab_size\" appears twice"));
}

TEST(HfConfigTest, RefusesBottomlessNesting) {
  const std::string text = R"({"a":)" + std::string(1'000'000, '[');
  EXPECT_THAT(std::string(ParseLlamaConfig(text, "config.json").status().message()),
              HasSubstr("nested"));
}

TEST(HfConfigTest, GenerationConfigDecidesTheEndIds) {
  const TempDir folder;
  WriteTestFile(folder.path() / "config.json", TinyJson().dump());
  WriteTestFile(folder.path() / "generation_config.json", R"({"eos_token_id": [11, 12]})");
  EXPECT_THAT(ReadLlamaConfig(folder.path())->eos_ids, ElementsAre(11, 12));
  WriteTestFile(folder.path() / "generation_config.json", R"({"bos_token_id": 1})");
  EXPECT_THAT(ReadLlamaConfig(folder.path())->eos_ids, ElementsAre(2));
  WriteTestFile(folder.path() / "generation_config.json", "{");
  EXPECT_THAT(std::string(ReadLlamaConfig(folder.path()).status().message()),
              HasSubstr("generation_config.json"));
}

TEST(HfConfigTest, NamesAMissingConfiguration) {
  const TempDir folder;
  const absl::Status status = ReadLlamaConfig(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("config.json"));
}

TEST(HfConfigTest, ReadsTheEmbeddedModel) {
  const auto config = ReadLlamaConfig(SourceFile("deploy/models/poem-alpaca"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->vocab, 6001);
  EXPECT_EQ(config->layers, 6);
  EXPECT_THAT(config->eos_ids, ElementsAre(2));
}

TEST(HfConfigTest, CanonicalFormShowsEveryDifference) {
  const LlamaConfig config = TinyLlamaConfig();
  LlamaConfig other = config;
  other.eos_ids = {2, 3};
  EXPECT_NE(config.Canonical(), other.Canonical());
  other = config;
  other.norm_eps = 1.0000001e-6F;
  EXPECT_NE(config.Canonical(), other.Canonical());
  EXPECT_EQ(config.Canonical(), TinyLlamaConfig().Canonical());
}

}  // namespace
}  // namespace yangtuo
