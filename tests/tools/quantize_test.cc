// yangtuo quantize: which tensor gets which type, and the command as a user runs it.

#include <filesystem>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"
#include "tests/tools/command_run.h"
#include "tools/quantize/importance.h"
#include "tools/quantize/type_rules.h"

namespace yangtuo {
namespace {

using nlohmann::json;
using testing::CommandRun;
using ::testing::HasSubstr;

constexpr std::int32_t kHidden = 256;
constexpr std::int32_t kFfn = 172;  // not in blocks of 32

class QuantizeTest : public ::testing::Test {
 protected:
  QuantizeTest() {
    LlamaConfig config = TinyLlamaConfig();
    config.hidden = kHidden;
    config.head_dim = kHidden / config.heads;
    config.ffn = kFfn;
    std::filesystem::create_directory(model_);
    WriteTestModel({.config = config, .dtype = DType::kF16}, model_);
  }

  DType TypeOf(const TypePolicy& policy, const std::string& name, std::vector<std::int64_t> shape) {
    return policy({.name = name, .dtype = DType::kF16, .shape = std::move(shape)});
  }

  std::vector<std::string> Command(const std::string& type, const std::string& output,
                                   std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"quantize",
                                          "--input",
                                          model_.string(),
                                          "--type",
                                          type,
                                          "--output",
                                          (folder_.path() / output).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  std::string WriteImportance(const std::string& name, const std::vector<float>& weights) {
    const std::filesystem::path file = folder_.path() / "importance.safetensors";
    const std::vector<PlainTensor> tensors = {
        {name, DType::kF32, {static_cast<std::int64_t>(weights.size())}}};
    WriteSafetensors(file, tensors, [&](std::size_t) { return weights; });
    return file.string();
  }

  TempDir folder_;
  std::filesystem::path model_ = folder_.path() / "model";
};

constexpr char kDown[] = "model.layers.1.mlp.down_proj.weight";
constexpr char kQuery[] = "model.layers.0.self_attn.q_proj.weight";

TEST_F(QuantizeTest, GivesMatricesTheTypeAndLeavesNorms) {
  const Checkpoint input = *OpenCheckpoint(model_);
  const auto int4 = QuantizedTypes(DType::kInt4, {}, input, CheckpointFormat::kSafetensors);
  ASSERT_TRUE(int4.ok()) << int4.status();
  EXPECT_EQ(TypeOf(*int4, kDown, {kHidden, kFfn}), DType::kInt4);
  EXPECT_EQ(TypeOf(*int4, "lm_head.weight", {64, kHidden}), DType::kInt4);
  EXPECT_EQ(TypeOf(*int4, "model.norm.weight", {kHidden}), DType::kF16);

  const auto q4_k = QuantizedTypes(DType::kQ4_K, {}, input, CheckpointFormat::kGguf);
  EXPECT_EQ(TypeOf(*q4_k, kQuery, {kHidden, kHidden}), DType::kQ4_K);
  EXPECT_EQ(TypeOf(*q4_k, "lm_head.weight", {64, kHidden}), DType::kQ6_K);
  EXPECT_EQ(TypeOf(*q4_k, "model.embed_tokens.weight", {64, kHidden}), DType::kQ4_K);
  EXPECT_EQ(TypeOf(*q4_k, "model.norm.weight", {kHidden}), DType::kF32);
}

TEST_F(QuantizeTest, ATiedEmbeddingIsTheHead) {
  Checkpoint input = *OpenCheckpoint(model_);
  input.config.tied_embeddings = true;
  const auto types = QuantizedTypes(DType::kQ4_K, {}, input, CheckpointFormat::kGguf);
  EXPECT_EQ(TypeOf(*types, "model.embed_tokens.weight", {64, kHidden}), DType::kQ6_K);
}

TEST_F(QuantizeTest, TheFirstRuleThatMatchesHolds) {
  const auto types = QuantizedTypes(
      DType::kInt4,
      {*ParseKeepRule("*.1.*.down_proj.weight=int8"), *ParseKeepRule("*down_proj*=f16")},
      *OpenCheckpoint(model_), CheckpointFormat::kSafetensors);
  ASSERT_TRUE(types.ok()) << types.status();
  EXPECT_EQ(TypeOf(*types, kDown, {kHidden, kFfn}), DType::kInt8);
  EXPECT_EQ(TypeOf(*types, "model.layers.0.mlp.down_proj.weight", {kHidden, kFfn}), DType::kF16);
  EXPECT_EQ(TypeOf(*types, kQuery, {kHidden, kHidden}), DType::kInt4);
}

TEST_F(QuantizeTest, RefusesRulesThatSayNothing) {
  EXPECT_THAT(std::string(ParseKeepRule("lm_head.weight").status().message()),
              HasSubstr("expected PATTERN=TYPE"));
  EXPECT_FALSE(ParseKeepRule("*=q5_k").ok());
  const auto none = QuantizedTypes(DType::kInt4, {*ParseKeepRule("output.weight=int8")},
                                   *OpenCheckpoint(model_), CheckpointFormat::kSafetensors);
  EXPECT_THAT(std::string(none.status().message()),
              HasSubstr("--keep output.weight=int8: no tensor has such a name"));
}

TEST_F(QuantizeTest, ReadsImportanceAndRefusesWhatDoesNotFit) {
  const Checkpoint model = *OpenCheckpoint(model_);
  std::vector<float> weights(kHidden, 2.0F);
  const auto good = Importance::Read(WriteImportance(kQuery, weights), model);
  ASSERT_TRUE(good.ok()) << good.status();
  EXPECT_EQ(good->Of(kQuery).size(), weights.size());
  EXPECT_TRUE(good->Of(kDown).empty());

  weights[9] = -1.0F;
  EXPECT_THAT(
      std::string(Importance::Read(WriteImportance(kQuery, weights), model).status().message()),
      HasSubstr("weight 9 is -1, expected 0 or more"));
  EXPECT_THAT(
      std::string(Importance::Read(WriteImportance(kDown, weights), model).status().message()),
      HasSubstr("expected a weight for each of 172 columns"));
  EXPECT_THAT(
      std::string(Importance::Read(WriteImportance("head", weights), model).status().message()),
      HasSubstr("the model has no such tensor"));
}

TEST_F(QuantizeTest, WritesInt4WithItsScalesAndSaysWhatItLost) {
  CommandRun run(Command("int4", "out", {"--json", "--keep", "lm_head.weight=int8"}));
  ASSERT_EQ(run.Wait(), "exit code 0") << run.err();
  const json report = json::parse(run.out());
  EXPECT_NEAR(report["bits_per_weight"].get<double>(), 4.6, 0.4);
  EXPECT_GT(report["relative_squared_error"].get<double>(), 1e-3);
  EXPECT_LT(report["relative_squared_error"].get<double>(), 6e-3);
  for (const json& tensor : report["tensors"]) {
    const bool norm = tensor["shape"].size() == 1;
    const bool head = tensor["name"] == "lm_head.weight";
    EXPECT_EQ(tensor["to"], norm ? "f16" : head ? "int8" : "int4") << tensor["name"];
    EXPECT_EQ(tensor.contains("relative_squared_error"), !norm);
  }

  const auto read = OpenCheckpoint(folder_.path() / "out");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->tensors->tensors()[*FindTensor(*read->tensors, kDown)].dtype, DType::kInt4);
}

TEST_F(QuantizeTest, KeepsRowsThatDoNotDivideIntoBlocksAndSaysSo) {
  CommandRun run(Command("q8_0", "model.gguf"));
  ASSERT_EQ(run.Wait(), "exit code 0") << run.err();
  EXPECT_THAT(run.out(), HasSubstr("stay f16: their rows do not divide into blocks of q8_0"));
  EXPECT_THAT(run.out(), HasSubstr("bits a weight"));
  EXPECT_THAT(run.out(), HasSubstr("error   "));
}

TEST_F(QuantizeTest, ImportanceChangesWhatIsWritten) {
  std::vector<float> weights(kHidden, 1.0F);
  for (std::size_t i = 0; i < weights.size(); i += 3) {
    weights[i] = 1000.0F;
  }
  const std::string importance = WriteImportance(kQuery, weights);
  CommandRun plain(Command("int4", "plain", {"--json"}));
  CommandRun weighted(Command("int4", "weighted", {"--json", "--importance", importance}));
  ASSERT_EQ(plain.Wait(), "exit code 0") << plain.err();
  ASSERT_EQ(weighted.Wait(), "exit code 0") << weighted.err();
  const json before = json::parse(plain.out())["tensors"];
  const json after = json::parse(weighted.out())["tensors"];
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i]["sha256"] == after[i]["sha256"], before[i]["name"] != kQuery);
  }
}

TEST_F(QuantizeTest, ADryRunWritesNothing) {
  CommandRun run(Command("q4_k", "model.gguf", {"--dry-run"}));
  EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
  EXPECT_THAT(run.out(), HasSubstr("q4_k"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "model.gguf"));
}

TEST_F(QuantizeTest, SaysWhatIsWrongInOneLine) {
  CommandRun run(Command("int4", "out", {"--keep", "nothing=f16"}));
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("yangtuo quantize: --keep nothing=f16"));
}

}  // namespace
}  // namespace yangtuo
