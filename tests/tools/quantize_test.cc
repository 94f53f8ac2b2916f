// yangtuo quantize: which tensor gets which type, and the command as a user runs it.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/quant/quant.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"
#include "tests/testing/data.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"
#include "tests/tools/command_run.h"
#include "tools/eval/perplexity.h"
#include "tools/quantize/calibration.h"
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

TEST_F(QuantizeTest, RulesLeaveNormsAlone) {
  CommandRun run(Command("int8", "out", {"--keep", "model.layers.0.*=int4"}));
  EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
  const auto written = OpenCheckpoint(folder_.path() / "out");
  ASSERT_TRUE(written.ok()) << written.status();
  for (const TensorSpec& tensor : written->tensors->tensors()) {
    EXPECT_EQ(tensor.dtype, tensor.shape.size() < 2                      ? DType::kF16
                            : tensor.name.starts_with("model.layers.0.") ? DType::kInt4
                                                                         : DType::kInt8)
        << tensor.name;
  }
}

TEST_F(QuantizeTest, RefusesRulesThatSayNothing) {
  EXPECT_THAT(std::string(ParseKeepRule("lm_head.weight").status().message()),
              HasSubstr("expected PATTERN=TYPE"));
  EXPECT_FALSE(ParseKeepRule("*=q5_k").ok());
  const auto none = QuantizedTypes(DType::kInt4, {*ParseKeepRule("output.weight=int8")},
                                   *OpenCheckpoint(model_), CheckpointFormat::kSafetensors);
  EXPECT_THAT(std::string(none.status().message()),
              HasSubstr("--keep output.weight=int8: no matrix has such a name"));
  const auto norms = QuantizedTypes(DType::kInt4, {*ParseKeepRule("*norm.weight=int8")},
                                    *OpenCheckpoint(model_), CheckpointFormat::kSafetensors);
  EXPECT_THAT(std::string(norms.status().message()), HasSubstr("no matrix has such a name"));
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

constexpr std::int32_t kScoredPoems = 200;

// Poems beyond those that perplexity is measured on.
std::filesystem::path WriteOtherPoems(const TempDir& folder, std::size_t count) {
  const std::string text = ReadTestFile(*SharedData("text/poems_valid.txt"));
  const auto poems = SplitDocuments(text, 0);
  std::string other;
  for (std::size_t i = kScoredPoems; i < std::min(poems.size(), kScoredPoems + count); ++i) {
    other += std::string(poems[i]) + "\n\n";
  }
  const auto file = folder.path() / "other.txt";
  WriteTestFile(file, other);
  return file;
}

TEST(CalibrationTest, TakesTheMeanSquareOfWhatIsMultiplied) {
  const auto model = SharedData("weights/poem-llama");
  if (!model.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const TempDir folder;
  const auto text = folder.path() / "text";
  WriteTestFile(text, "春眠不觉晓");
  const auto found =
      Calibrate({.model = *model, .text = text, .threads = 1}, [](std::int64_t, std::int64_t) {});
  ASSERT_TRUE(found.ok()) << found.status();

  // Queries of the first layer read the norm of the tokens' embeddings.
  const auto tokenizer = Tokenizer::Load(*model);
  std::vector<std::int32_t> ids = *(*tokenizer)->Encode("春眠不觉晓", {.add_bos = true});
  ids.push_back((*tokenizer)->eos_id());
  EXPECT_EQ(found->tokens, static_cast<std::int64_t>(ids.size()) - 1);
  const Checkpoint checkpoint = *OpenCheckpoint(*model);
  const auto row_of = [&](const std::string& name, std::int64_t row) {
    const std::size_t index = *FindTensor(*checkpoint.tensors, name);
    const TensorSpec& spec = checkpoint.tensors->tensors()[index];
    std::vector<std::byte> bytes(static_cast<std::size_t>(spec.row_bytes()));
    EXPECT_TRUE(checkpoint.tensors->ReadRows(index, row, 1, bytes).ok());
    std::vector<float> values(static_cast<std::size_t>(spec.cols()));
    DequantizeRow(spec.dtype, bytes, values);
    return values;
  };
  const std::vector<float> norm = row_of("model.layers.0.input_layernorm.weight", 0);
  std::vector<double> means(norm.size());
  for (const std::int32_t id : ids) {
    const std::vector<float> x = row_of("model.embed_tokens.weight", id);
    double squares = 0.0;
    for (const float value : x) {
      squares += double{value} * double{value};
    }
    const double scale = squares / static_cast<double>(x.size()) + checkpoint.config.norm_eps;
    for (std::size_t i = 0; i < x.size(); ++i) {
      means[i] +=
          std::pow(double{x[i]} * double{norm[i]}, 2) / scale / static_cast<double>(ids.size());
    }
  }
  for (const char* const part : {"q", "k", "v"}) {
    const auto weights =
        found->importance.Of(absl::StrFormat("model.layers.0.self_attn.%s_proj.weight", part));
    ASSERT_EQ(weights.size(), means.size());
    for (std::size_t i = 0; i < means.size(); ++i) {
      EXPECT_NEAR(weights[i], means[i], 1e-5 * means[i]) << i;
    }
  }
  EXPECT_FALSE(found->importance.Of("model.layers.5.mlp.down_proj.weight").empty());
  EXPECT_FALSE(found->importance.Of("lm_head.weight").empty());
  EXPECT_TRUE(found->importance.Of("model.embed_tokens.weight").empty());
  const auto file = folder.path() / "importance.safetensors";
  ASSERT_TRUE(found->importance.Write(file).ok());
  const auto read = Importance::Read(file, checkpoint);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->size(), found->importance.size());
  EXPECT_THAT(read->Of("lm_head.weight"),
              ::testing::ElementsAreArray(found->importance.Of("lm_head.weight")));
}

// Of the first poems. kF32: with the weights as they are stored.
double PerplexityOf(const std::filesystem::path& model, WeightType type = WeightType::kF32) {
  PerplexityOptions options;
  options.stage.model = model;
  options.stage.weight_type = type;
  options.stage.threads = 1;
  options.tokenizer = *SharedData("weights/poem-llama/tokenizer.model");
  options.text = *SharedData("text/poems_valid.txt");
  options.documents = kScoredPoems;
  const auto found = MeasurePerplexity(options, [](std::int64_t, std::int64_t) {});
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() ? found->value() : 0.0;
}

// Perplexity of GGUF's types by themselves, and as a worker of ours serves them: products in int8
// and int4, which loses a second time, or with the file's blocks to the letter, which does not.
TEST(GgufQualityTest, OfStoredTypesIsAsPromised) {
  const auto model = SharedData("weights/poem-llama");
  if (!model.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const TempDir folder;
  const double exact = PerplexityOf(*model);
  struct Case {
    std::string type;
    double stored;
    double served;
  };
  for (const Case& c :
       {Case{"q8_0", 1.002, 1.002}, Case{"q4_0", 1.015, 1.015}, Case{"q4_k", 1.01, 1.02}}) {
    const auto file = folder.path() / (c.type + ".gguf");
    CommandRun run(
        {"quantize", "--input", model->string(), "--type", c.type, "--output", file.string()});
    ASSERT_EQ(run.Wait(), "exit code 0") << run.err();
    const double stored = PerplexityOf(file) / exact;
    const double served = PerplexityOf(file, WeightType::kAuto) / exact;
    const double letter = PerplexityOf(file, WeightType::kGguf) / exact;
    std::cout << c.type << ": perplexity ratio to f32 " << stored << " stored, " << served
              << " served, " << letter << " served to the letter\n";
    EXPECT_LE(letter, c.stored) << c.type;
    EXPECT_LE(stored, c.stored) << c.type;
    EXPECT_LE(served, c.served) << c.type;
  }
}

// Measured: int4 1.0089 without and 1.0097 with, q4_k 1.0037 and 1.0027. Which codes are chosen
// moves the ratio by 0.001 either way: this small model has no columns that count far more than
// others.
TEST(CalibrationTest, LosesNoMoreQualityThanWithout) {
  const auto model = SharedData("weights/poem-llama");
  if (!model.has_value()) {
    GTEST_SKIP() << "no shared data";
  }
  const TempDir folder;
  const std::string text = WriteOtherPoems(folder, 200).string();
  const double exact = PerplexityOf(*model);
  for (const std::string type : {"int4", "q4_k"}) {
    const std::string suffix = type == "int4" ? "" : ".gguf";
    const auto path = [&](const char* name) {
      return (folder.path() / (type + name + suffix)).string();
    };
    CommandRun plain(
        {"quantize", "--input", model->string(), "--type", type, "--output", path("-plain")});
    ASSERT_EQ(plain.Wait(), "exit code 0") << plain.err();
    CommandRun calibrated({"quantize", "--input", model->string(), "--type", type, "--output",
                           path("-calibrated"), "--calibrate", text});
    ASSERT_EQ(calibrated.Wait(), "exit code 0") << calibrated.err();
    EXPECT_THAT(calibrated.err(), HasSubstr("calibrated on "));
    const double without = PerplexityOf(path("-plain")) / exact;
    const double with = PerplexityOf(path("-calibrated")) / exact;
    std::cout << type << ": perplexity ratio to f32 " << without << " without, " << with
              << " with calibration\n";
    RecordProperty(type, absl::StrFormat("%.5f without, %.5f with calibration", without, with));
    EXPECT_LE(with, without + (type == "int4" ? 0.0015 : 0.0));
    EXPECT_LE(without, type == "int4" ? 1.015 : 1.01);
  }
}

TEST_F(QuantizeTest, ADryRunWritesNothing) {
  CommandRun run(Command("q4_k", "model.gguf", {"--dry-run"}));
  EXPECT_EQ(run.Wait(), "exit code 0") << run.err();
  EXPECT_THAT(run.out(), HasSubstr("q4_k"));
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "model.gguf"));
}

// Calibrating may take hours.
TEST_F(QuantizeTest, SaysWhatIsWrongWithTheOutputBeforeItCalibrates) {
  const std::string text = (folder_.path() / "text").string();
  WriteTestFile(text, "words");
  std::filesystem::create_directory(folder_.path() / "full");
  WriteTestFile(folder_.path() / "full/file", "somebody's");
  CommandRun full(Command("int4", "full", {"--calibrate", text}));
  EXPECT_EQ(full.Wait(), "exit code 1");
  EXPECT_THAT(full.err(), HasSubstr("full is there already and not empty"));
  CommandRun nowhere(
      Command("int4", "out",
              {"--calibrate", text, "--save-importance", (folder_.path() / "none/file").string()}));
  EXPECT_EQ(nowhere.Wait(), "exit code 1");
  EXPECT_THAT(nowhere.err(), HasSubstr("none/file cannot be written: No such file"));
}

TEST_F(QuantizeTest, SaysWhatIsWrongInOneLine) {
  CommandRun run(Command("int4", "out", {"--keep", "nothing=f16"}));
  EXPECT_EQ(run.Wait(), "exit code 1");
  EXPECT_THAT(run.err(), HasSubstr("yangtuo quantize: --keep nothing=f16"));
}

}  // namespace
}  // namespace yangtuo
