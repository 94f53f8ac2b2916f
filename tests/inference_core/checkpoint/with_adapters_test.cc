#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/peft_adapter.h"
#include "tests/inference_core/checkpoint/rows_of.h"
#include "tests/inference_core/tokenizer/model_builder.h"
#include "tests/testing/data.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

constexpr char kQuery[] = "base_model.model.model.layers.0.self_attn.q_proj.";
constexpr char kEmbedding[] = "base_model.model.model.embed_tokens.weight";
constexpr char kHead[] = "base_model.model.lm_head.weight";

std::string TokenizerWith(const std::vector<std::string>& more) {
  ModelBuilder builder;
  for (const std::string& piece : more) {
    builder.Add(piece);
  }
  return builder.Build();
}

// A tiny model with a tokenizer of its size, and adapters for it.
class WithAdaptersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = TinyLlamaConfig();
    config_.vocab = kVocab;
    fs::create_directory(Base());
    WriteTestModel({.config = config_, .dtype = DType::kF16}, Base());
    WriteTestFile(Base() / "tokenizer.model", TokenizerWith({}));
  }

  [[nodiscard]] fs::path Base() const { return folder_.path() / "base"; }

  // An adapter of rank 4 with these tensors; values do not matter.
  fs::path Adapter(const std::string& name, const std::vector<PlainTensor>& tensors,
                   const std::string& tokenizer = "") const {
    const fs::path folder = folder_.path() / name;
    fs::create_directory(folder);
    WriteTestFile(folder / "adapter_config.json",
                  R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none"})");
    WriteSafetensors(folder / "adapter_model.safetensors", tensors, [&](std::size_t i) {
      return std::vector<float>(static_cast<std::size_t>(tensors[i].elements()), 0.25F);
    });
    if (!tokenizer.empty()) {
      WriteTestFile(folder / "tokenizer.model", tokenizer);
    }
    return folder;
  }

  static std::vector<PlainTensor> QueryFactors(std::int64_t hidden = 32, std::int64_t rank = 4) {
    return {{.name = std::string(kQuery) + "lora_A.weight", .shape = {rank, hidden}},
            {.name = std::string(kQuery) + "lora_B.weight", .shape = {hidden, rank}}};
  }
  static std::vector<PlainTensor> QueryAndTokens(std::int64_t embedding, std::int64_t head) {
    std::vector<PlainTensor> tensors = QueryFactors();
    tensors.push_back({.name = kEmbedding, .shape = {embedding, 32}});
    tensors.push_back({.name = kHead, .shape = {head, 32}});
    return tensors;
  }

  [[nodiscard]] absl::StatusOr<Checkpoint> Merge(const std::vector<fs::path>& adapters) const {
    absl::StatusOr<Checkpoint> base = OpenCheckpoint(Base());
    EXPECT_TRUE(base.ok()) << base.status();
    return WithAdapters(*base, adapters);
  }
  void ExpectRefused(const std::vector<fs::path>& adapters, absl::StatusCode code,
                     const std::string& a, const std::string& b) const {
    const absl::Status status = Merge(adapters).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(a), HasSubstr(b)));
  }
  void ExpectMisfit(const std::vector<fs::path>& adapters, const std::string& a,
                    const std::string& b) const {
    ExpectRefused(adapters, absl::StatusCode::kFailedPrecondition, a, b);
  }

  static constexpr std::int32_t kVocab = 271;
  TempDir folder_;
  LlamaConfig config_;
};

TEST_F(WithAdaptersTest, TheLastAdaptersTokenizerAndVocabularyAreTheModels) {
  const std::string tokenizer = TokenizerWith({"新", "词"});
  const auto merged = Merge({Adapter("more", QueryAndTokens(kVocab + 2, kVocab + 2), tokenizer),
                             Adapter("plain", QueryFactors())});
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(merged->config.vocab, kVocab + 2);
  EXPECT_EQ(merged->tokenizer_model, tokenizer);
  EXPECT_EQ(merged->tokenizer_file, folder_.path() / "more" / "tokenizer.model");
  EXPECT_EQ(merged->tensors->tensors()[0].rows(), kVocab + 2);
}

TEST_F(WithAdaptersTest, DigestsTellAdaptersApart) {
  const auto one = Merge({Adapter("one", QueryFactors())});
  const auto both = Merge({Adapter("a", QueryFactors()), Adapter("b", QueryFactors())});
  const auto base = OpenCheckpoint(Base());
  ASSERT_TRUE(one.ok() && both.ok() && base.ok());
  EXPECT_NE(one->digest, both->digest);
  EXPECT_NE(one->digest, base->digest);
}

TEST_F(WithAdaptersTest, RefusesAdaptersInTheWrongOrder) {
  ExpectMisfit(
      {Adapter("tuned", QueryAndTokens(kVocab + 2, kVocab + 2), TokenizerWith({"新", "词"})),
       Adapter("pretrained", QueryAndTokens(kVocab + 1, kVocab + 1), TokenizerWith({"新"}))},
      "adapter " + (folder_.path() / "pretrained").string(), "order");
}

TEST_F(WithAdaptersTest, RefusesAnEmbeddingThatIsNotOfItsTokenizer) {
  ExpectMisfit({Adapter("mixed", QueryAndTokens(kVocab + 2, kVocab + 2), TokenizerWith({"新"}))},
               "embedding has 273 rows", "tokenizer.model in its folder has 272");
}

TEST_F(WithAdaptersTest, RefusesATokenizerThatDoesNotExtendTheModels) {
  ModelBuilder other;
  other.model.mutable_pieces(kVocab - 1)->set_piece("別");
  ExpectMisfit({Adapter("other", QueryAndTokens(kVocab, kVocab), other.Build())},
               "token 270 is \"/\"", "\"別\"");
}

TEST_F(WithAdaptersTest, RefusesMoreTokensThanTheModelHasRowsFor) {
  ExpectMisfit({Adapter("later", QueryFactors(), TokenizerWith({"新"}))}, "272 tokens",
               "does not bring the missing rows");
}

TEST_F(WithAdaptersTest, RefusesAHeadThatIsNotOfTheEmbeddingsSize) {
  ExpectMisfit({Adapter("torn", QueryAndTokens(kVocab + 2, kVocab + 1))}, "head has 272 rows",
               "embedding 273");
}

TEST_F(WithAdaptersTest, SaysForWhichHiddenSizeAnAdapterWasTrained) {
  ExpectMisfit({Adapter("larger", QueryFactors(40))}, "trained on a model of hidden size 40",
               "this one has 32");
}

TEST_F(WithAdaptersTest, RefusesFactorsOfAnotherRankThanTheConfiguration) {
  ExpectMisfit({Adapter("rank", QueryFactors(32, 8))}, "[8, 32]", "r = 4");
}

TEST_F(WithAdaptersTest, RefusesTensorsThatMatchNothingInTheModel) {
  std::vector<PlainTensor> tensors = QueryFactors();
  for (PlainTensor& tensor : tensors) {
    tensor.name.replace(tensor.name.find("layers.0"), 8, "layers.7");
  }
  ExpectMisfit({Adapter("deeper", tensors)}, "layers.7.self_attn.q_proj",
               "nearest is model.layers.");
}

TEST_F(WithAdaptersTest, RefusesAFactorWithoutItsPartner) {
  std::vector<PlainTensor> tensors = QueryFactors();
  tensors.pop_back();
  ExpectMisfit({Adapter("half", tensors)}, "lora_A", "not complete");
}

TEST_F(WithAdaptersTest, RefusesPartsOfAnAdapterThatItDoesNotKnow) {
  std::vector<PlainTensor> tensors = QueryFactors();
  tensors.push_back({.name = std::string(kQuery) + "lora_magnitude_vector.weight", .shape = {32}});
  ExpectRefused({Adapter("dora", tensors)}, absl::StatusCode::kFailedPrecondition,
                "lora_magnitude_vector", "not known");
}

TEST_F(WithAdaptersTest, NamesFilesThatAreMissing) {
  ExpectRefused({folder_.path() / "nowhere"}, absl::StatusCode::kNotFound, "nowhere",
                "nothing there");
  ExpectRefused({Base()}, absl::StatusCode::kNotFound, "adapter_config.json", "a whole model");
  const fs::path bare = Adapter("bare", QueryFactors());
  fs::remove(bare / "adapter_model.safetensors");
  ExpectRefused({bare}, absl::StatusCode::kNotFound, "adapter_model.bin", "found neither");
}

TEST_F(WithAdaptersTest, RopeSettingsOfAnAdapterTravelToTheModel) {
  const fs::path adapter = Adapter("long", QueryFactors());
  LlamaConfig longer = config_;
  longer.rope_linear_factor = 4.0F;
  longer.context_tokens = 512;
  WriteTestFile(adapter / "config.json", EncodeConfig(longer, DType::kF16));
  const auto merged = Merge({adapter});
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(merged->config.rope_linear_factor, 4.0F);
  EXPECT_EQ(merged->config.context_tokens, 512);
  EXPECT_EQ(merged->config_file, adapter / "config.json");
}

// Each of the two files is the last adapter's that has it, else the base's.
TEST_F(WithAdaptersTest, ConfigurationAndGenerationConfigurationTravelEachByItself) {
  WriteTestFile(Base() / "generation_config.json", R"({"eos_token_id": [2, 5]})");
  const fs::path configured = Adapter("configured", QueryFactors());
  WriteTestFile(configured / "config.json", EncodeConfig(config_, DType::kF16));
  const auto kept = Merge({configured});
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->config_file, configured / "config.json");
  EXPECT_EQ(kept->generation_config_file, Base() / "generation_config.json");
  EXPECT_EQ(kept->config.eos_ids, (std::vector<std::int32_t>{2, 5}));

  const fs::path stopping = Adapter("stopping", QueryFactors());
  WriteTestFile(stopping / "generation_config.json", R"({"eos_token_id": [2, 6]})");
  const auto changed = Merge({stopping, configured});
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->generation_config_file, stopping / "generation_config.json");
  EXPECT_EQ(changed->config.eos_ids, (std::vector<std::int32_t>{2, 6}));
}

TEST_F(WithAdaptersTest, RefusesAConfigurationOfAnotherShape) {
  const fs::path adapter = Adapter("odd", QueryFactors());
  LlamaConfig other = config_;
  other.layers = 3;
  WriteTestFile(adapter / "config.json", EncodeConfig(other, DType::kF16));
  ExpectMisfit({adapter}, "3 layers", "2 layers");
}

TEST_F(WithAdaptersTest, RefusesValuesThatTheTypeCannotHold) {
  const fs::path adapter = Adapter("loud", QueryFactors());
  const std::vector<PlainTensor> tensors = QueryFactors();
  WriteSafetensors(adapter / "adapter_model.safetensors", tensors, [&](std::size_t i) {
    return std::vector<float>(static_cast<std::size_t>(tensors[i].elements()), 300.0F);
  });
  const auto merged = Merge({adapter});
  ASSERT_TRUE(merged.ok()) << merged.status();
  const auto index = FindTensor(*merged->tensors, "model.layers.0.self_attn.q_proj.weight");
  ASSERT_TRUE(index.ok());
  std::vector<std::byte> row(64);
  const absl::Status status = merged->tensors->ReadRows(*index, 5, 1, row);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("q_proj"), HasSubstr("row 5")));
}

struct Refusal {
  const char* name;
  const char* json;
  absl::StatusCode code;
  const char* what;
};

class PeftConfigTest : public ::testing::TestWithParam<Refusal> {};

INSTANTIATE_TEST_SUITE_P(
    Files, PeftConfigTest,
    ::testing::Values(
        Refusal{"OtherKind", R"({"peft_type": "IA3", "r": 8, "lora_alpha": 32})",
                absl::StatusCode::kUnimplemented, "peft_type"},
        Refusal{"Biases", R"({"r": 8, "lora_alpha": 32, "bias": "all"})",
                absl::StatusCode::kUnimplemented, "bias"},
        Refusal{"Dora", R"({"r": 8, "lora_alpha": 32, "use_dora": true})",
                absl::StatusCode::kUnimplemented, "use_dora"},
        Refusal{"Patterns", R"({"r": 8, "lora_alpha": 32, "rank_pattern": {"q_proj": 4}})",
                absl::StatusCode::kUnimplemented, "rank_pattern"},
        Refusal{"ChangedBase",
                R"({"r": 8, "lora_alpha": 32, "init_lora_weights": "pissa_niter_4"})",
                absl::StatusCode::kUnimplemented, "init_lora_weights"},
        Refusal{"NoRank", R"({"lora_alpha": 32})", absl::StatusCode::kInvalidArgument, "\"r\""},
        Refusal{"RankOfZero", R"({"r": 0, "lora_alpha": 32})", absl::StatusCode::kInvalidArgument,
                "\"r\""},
        Refusal{"NoAlpha", R"({"r": 8})", absl::StatusCode::kInvalidArgument, "lora_alpha"},
        Refusal{"NotJson", "{", absl::StatusCode::kInvalidArgument, "adapter_config.json"}),
    [](const auto& param) { return param.param.name; });

TEST_P(PeftConfigTest, IsRefusedWithTheKeyNamed) {
  const absl::Status status = ParsePeftConfig(GetParam().json, "adapter_config.json").status();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().what));
}

TEST(PeftConfigTest, TakesInitializationsThatLeaveTheBaseAlone) {
  for (const std::string start : {"null", "true", "false", R"("gaussian")", R"("orthogonal")"}) {
    const auto config = ParsePeftConfig(
        R"({"r": 8, "lora_alpha": 32, "init_lora_weights": )" + start + "}", "file");
    EXPECT_TRUE(config.ok()) << config.status();
  }
}

TEST(PeftConfigScaleTest, IsAlphaOverTheRankOrItsRoot) {
  const auto plain = ParsePeftConfig(
      R"({"r": 64, "lora_alpha": 128, "enable_lora": null, "use_dora": false})", "file");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->scale, 2.0);
  const auto by_root =
      ParsePeftConfig(R"({"r": 16, "lora_alpha": 10, "use_rslora": true})", "file");
  ASSERT_TRUE(by_root.ok()) << by_root.status();
  EXPECT_EQ(by_root->scale, 2.5);
}

}  // namespace
}  // namespace yangtuo
