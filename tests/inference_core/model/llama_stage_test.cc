#include "inference_core/model/llama_stage.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/model/llama_weights.h"
#include "inference_core/model/numerics.h"
#include "tests/inference_core/model/stage_driver.h"
#include "tests/testing/data.h"
#include "tests/testing/safetensors_writer.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class LlamaStageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteTestModel({.config = TinyLlamaConfig(), .tokenizer = {}}, folder_.path());
    options_.model = folder_.path();
    options_.weight_type = WeightType::kF32;
    options_.kv_blocks = 4;
    options_.threads = 1;
  }

  TempDir folder_;
  StageOptions options_;
};

TEST_F(LlamaStageTest, TellsWhatItIsBeforeAndAfterLoading) {
  const auto identity = IdentifyModel(options_);
  ASSERT_TRUE(identity.ok()) << identity.status();
  const auto stage = LoadLlamaStage(options_, nullptr);
  ASSERT_TRUE(stage.ok()) << stage.status();
  const StageInfo& info = (*stage)->info();
  EXPECT_EQ(info.model_digest, identity->digest);
  EXPECT_EQ(info.numerics, identity->numerics);
  EXPECT_EQ(info.weight_type, "f32");
  EXPECT_EQ(identity->weight_type, "f32");
  EXPECT_THAT(info.numerics,
              StartsWith("f32/kv-bf16/" +
                         kernels::MatmulInstructionSet(kernels::MatmulType::kF32,
                                                       kernels::IntegerPath::kFastest) +
                         "/"));
  EXPECT_EQ(info.num_layers, 2);
  EXPECT_EQ(info.hidden, 32);
  EXPECT_EQ(info.vocab, 64);
  EXPECT_EQ(info.context_tokens, 128);
  EXPECT_EQ(info.kv_blocks, 4);
  EXPECT_EQ(info.max_step_tokens, 512);
  EXPECT_EQ(info.depth, 1);
}

TEST_F(LlamaStageTest, NumericsDoNotDependOnThreadsOrStepSize) {
  const auto one = IdentifyModel(options_);
  options_.threads = 2;
  options_.max_step_tokens = 100;
  const auto two = IdentifyModel(options_);
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(one->numerics, two->numerics);
}

TEST_F(LlamaStageTest, NumericsNameTheTypeOfTheKvCache) {
  for (const kernels::KvType type : kernels::kKvTypes) {
    options_.kv_type = type;
    const auto identity = IdentifyModel(options_);
    ASSERT_TRUE(identity.ok()) << identity.status();
    EXPECT_THAT(identity->numerics,
                StartsWith(absl::StrFormat("f32/kv-%s/", kernels::NameOf(type))));
  }
}

TEST_F(LlamaStageTest, RefusesANextStageWithAnotherKvType) {
  options_.first_layer = 1;
  options_.kv_type = kernels::KvType::kInt8;
  auto last = LoadLlamaStage(options_, nullptr);
  ASSERT_TRUE(last.ok()) << last.status();
  options_.first_layer = 0;
  options_.last_layer = 1;
  options_.kv_type = kernels::KvType::kBf16;
  const absl::Status refused = LoadLlamaStage(options_, *std::move(last)).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), AllOf(HasSubstr("kv-bf16"), HasSubstr("kv-int8")));
}

TEST_F(LlamaStageTest, TellsWhatQuantizingAtLoadLost) {
  for (const WeightType type : {WeightType::kF32, WeightType::kInt8, WeightType::kInt4}) {
    options_.weight_type = type;
    const auto stage = LoadLlamaStage(options_, nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    const double lost = (*stage)->info().weights_error;
    EXPECT_GE(lost, type == WeightType::kInt4 ? 0.03 : type == WeightType::kInt8 ? 0.002 : 0.0);
    EXPECT_LE(lost, type == WeightType::kInt4 ? 0.2 : type == WeightType::kInt8 ? 0.01 : 0.0);
  }
}

// Which products there were, with the sizes of their inputs.
class InputShapes final : public ProductObserver {
 public:
  void Observe(Product product, std::int32_t layer, ConstMatrix x) override {
    seen_.push_back(absl::StrFormat("%d.%d [%d, %d]", product == Product::kLogits ? -1 : layer,
                                    static_cast<int>(product), x.dim(0), x.dim(1)));
  }
  [[nodiscard]] const std::vector<std::string>& seen() const { return seen_; }

 private:
  std::vector<std::string> seen_;
};

TEST_F(LlamaStageTest, ShowsAnObserverWhatIsMultipliedAndComputesTheSame) {
  const std::vector<DriverRequest> requests = {
      {.prompt = {1, 5, 9}, .sampling = {}, .new_tokens = 1}};
  const auto plain = LoadLlamaStage(options_, nullptr);
  InputShapes shapes;
  options_.observer = &shapes;
  const auto observed = LoadLlamaStage(options_, nullptr);
  ASSERT_TRUE(plain.ok() && observed.ok());
  EXPECT_TRUE(
      SameAnswer(Drive(**plain, requests, {}).front(), Drive(**observed, requests, {}).front()));
  EXPECT_THAT(shapes.seen(), ::testing::ElementsAre("0.0 [3, 32]", "0.1 [3, 32]", "0.2 [3, 32]",
                                                    "0.3 [3, 48]", "1.0 [3, 32]", "1.1 [3, 32]",
                                                    "1.2 [3, 32]", "1.3 [3, 48]", "-1.4 [1, 32]"));
}

TEST_F(LlamaStageTest, ChoosesBf16OnlyWhereTheCpuMultipliesIt) {
  options_.weight_type = WeightType::kAuto;
  const auto identity = IdentifyModel(options_);
  ASSERT_TRUE(identity.ok()) << identity.status();
  EXPECT_EQ(identity->weight_type, kernels::HasFastBf16() ? "bf16" : "f32");
}

TEST_F(LlamaStageTest, HoldsAsManyBlocksAsTheMemoryGiven) {
  options_.kv_blocks = 0;
  // 2 layers of 2 kv heads: keys 8 * 32 and values 32 * 16 numbers each; int8 has scales.
  constexpr std::int64_t kNumbers = 8 * 32 + 32 * 16;
  const std::map<kernels::KvType, std::int64_t> head_bytes = {
      {kernels::KvType::kF32, kNumbers * 4},
      {kernels::KvType::kBf16, kNumbers * 2},
      {kernels::KvType::kInt8, kNumbers + 2 * 32 * 4}};
  for (const auto& [type, bytes] : head_bytes) {
    options_.kv_type = type;
    options_.kv_memory_bytes = 7 * 2 * 2 * bytes + 100;
    const auto stage = LoadLlamaStage(options_, nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    EXPECT_EQ((*stage)->info().kv_blocks, 7);
  }
  options_.kv_memory_bytes = 1000;
  EXPECT_EQ(LoadLlamaStage(options_, nullptr).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LlamaStageTest, AChainHoldsWhatItsWeakestStageHolds) {
  options_.first_layer = 1;
  options_.kv_blocks = 3;
  options_.max_step_tokens = 40;
  options_.context_tokens = 100;
  auto last = LoadLlamaStage(options_, nullptr);
  ASSERT_TRUE(last.ok()) << last.status();
  options_.first_layer = 0;
  options_.last_layer = 1;
  options_.kv_blocks = 5;
  options_.max_step_tokens = 50;
  options_.context_tokens = 0;
  const auto stage = LoadLlamaStage(options_, *std::move(last));
  ASSERT_TRUE(stage.ok()) << stage.status();
  EXPECT_EQ((*stage)->info().kv_blocks, 3);
  EXPECT_EQ((*stage)->info().max_step_tokens, 40);
  EXPECT_EQ((*stage)->info().context_tokens, 100);
  EXPECT_EQ((*stage)->info().depth, 2);
}

TEST_F(LlamaStageTest, RefusesANextStageThatDoesNotContinue) {
  options_.last_layer = 1;
  const auto alone = LoadLlamaStage(options_, nullptr);
  EXPECT_EQ(alone.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(alone.status().message()), HasSubstr("begins at layer 1"));

  options_.last_layer = -1;
  auto whole = LoadLlamaStage(options_, nullptr);
  ASSERT_TRUE(whole.ok());
  options_.last_layer = 1;
  EXPECT_EQ(LoadLlamaStage(options_, *std::move(whole)).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(LlamaStageTest, RefusesANextStageOfAnotherModelNamingBothDigests) {
  const TempDir other;
  LlamaConfig config = TinyLlamaConfig();
  config.rope_theta = 20000.0F;
  WriteTestModel({.config = config, .tokenizer = {}}, other.path());
  StageOptions next_options = options_;
  next_options.model = other.path();
  next_options.first_layer = 1;
  auto next = LoadLlamaStage(next_options, nullptr);
  ASSERT_TRUE(next.ok()) << next.status();
  const std::string their_digest = (*next)->info().model_digest;
  options_.last_layer = 1;
  const auto stage = LoadLlamaStage(options_, *std::move(next));
  EXPECT_EQ(stage.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(stage.status().message()), HasSubstr(their_digest));
}

TEST_F(LlamaStageTest, RefusesRangesAndContextsOutsideTheModel) {
  options_.first_layer = 2;
  EXPECT_EQ(LoadLlamaStage(options_, nullptr).status().code(), absl::StatusCode::kInvalidArgument);
  options_.first_layer = 0;
  options_.last_layer = 3;
  EXPECT_EQ(LoadLlamaStage(options_, nullptr).status().code(), absl::StatusCode::kInvalidArgument);
  options_.last_layer = -1;
  options_.context_tokens = 129;
  const absl::Status status = LoadLlamaStage(options_, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("at most 128"));
}

// Rewrites the model's weights without, or with another shape of, some tensors.
void WriteWeights(const std::filesystem::path& folder, const std::vector<PlainTensor>& tensors) {
  WriteSafetensors(folder / "model.safetensors", tensors, [&](std::size_t i) {
    return std::vector<float>(static_cast<std::size_t>(tensors[i].elements()), 0.01F);
  });
}

// Remembers which tensors were asked for, and which were let go of.
class WatchedTensors final : public TensorSource {
 public:
  explicit WatchedTensors(const TensorSource& source) : source_(source) {}
  [[nodiscard]] const std::vector<TensorSpec>& tensors() const override {
    return source_.tensors();
  }
  absl::Status ReadRows(std::size_t index, std::int64_t first, std::int64_t count,
                        std::span<std::byte> rows) const override {
    used.insert(tensors()[index].name);
    return source_.ReadRows(index, first, count, rows);
  }
  [[nodiscard]] std::span<const std::byte> Mapped(std::size_t index) const override {
    used.insert(tensors()[index].name);
    return source_.Mapped(index);
  }
  void Forget(std::size_t index) const override { forgotten.insert(tensors()[index].name); }
  [[nodiscard]] std::string Origin(std::size_t index) const override {
    return source_.Origin(index);
  }

  mutable std::set<std::string> used;
  mutable std::set<std::string> forgotten;

 private:
  const TensorSource& source_;
};

TEST_F(LlamaStageTest, ReadsOnlyTheTensorsOfItsLayersAndLetsGoOfThePackedOnes) {
  const auto checkpoint = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const WatchedTensors tensors(*checkpoint->tensors);
  auto workspace = kernels::MatmulWorkspace::Create({});
  ASSERT_TRUE(workspace.ok());

  const auto weights =
      LoadLlamaWeights(tensors, checkpoint->config, {.first = 1, .last = 2}, *workspace);

  ASSERT_TRUE(weights.ok()) << weights.status();
  std::set<std::string> matrices;
  for (const std::string& name : tensors.used) {
    EXPECT_TRUE(name.starts_with("model.layers.1.") || name == "model.norm.weight" ||
                name == "lm_head.weight")
        << name;
    if (name.find("norm") == std::string::npos) {
      matrices.insert(name);
    }
  }
  EXPECT_EQ(matrices.size(), 8U);
  EXPECT_EQ(tensors.forgotten, matrices);
}

TEST_F(LlamaStageTest, NamesATensorThatIsMissing) {
  std::vector<PlainTensor> tensors = LlamaTensors(TinyLlamaConfig(), DType::kF32);
  std::erase_if(tensors,
                [](const PlainTensor& t) { return t.name == "model.embed_tokens.weight"; });
  WriteWeights(folder_.path(), tensors);
  const absl::Status missing = LoadLlamaStage(options_, nullptr).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("model.embed_tokens.weight"));
}

TEST_F(LlamaStageTest, KeepsTheTypeOfAModelThatIsStoredInFewBits) {
  const auto type = [](std::int64_t cols, DType dtype) {
    class OneMatrix final : public TensorSource {
     public:
      OneMatrix(std::int64_t c, DType d)
          : tensors_({{.name = "model.layers.0.mlp.up_proj.weight", .dtype = d, .shape = {8, c}},
                      {.name = "lm_head.weight", .dtype = DType::kF16, .shape = {99, c}}}) {}
      [[nodiscard]] const std::vector<TensorSpec>& tensors() const override { return tensors_; }
      absl::Status ReadRows(std::size_t, std::int64_t, std::int64_t,
                            std::span<std::byte>) const override {
        return absl::OkStatus();
      }
      [[nodiscard]] std::span<const std::byte> Mapped(std::size_t) const override { return {}; }
      void Forget(std::size_t) const override {}
      [[nodiscard]] std::string Origin(std::size_t) const override { return "made up"; }

     private:
      std::vector<TensorSpec> tensors_;
    };
    return WeightTypeFor(OneMatrix(cols, dtype));
  };
  EXPECT_EQ(type(4096, DType::kInt4), WeightType::kInt4);
  EXPECT_EQ(type(4096, DType::kQ4_0), WeightType::kInt4);
  EXPECT_EQ(type(4096, DType::kQ4_K), WeightType::kInt4);
  EXPECT_EQ(type(4096, DType::kInt8), WeightType::kInt8);
  EXPECT_EQ(type(4096, DType::kQ8_0), WeightType::kInt8);
  EXPECT_EQ(type(4096, DType::kQ6_K), WeightType::kInt8);
  EXPECT_EQ(type(4096, DType::kF16), WeightType::kAuto);
}

TEST_F(LlamaStageTest, NamesFileTensorAndShapesWhenATensorDoesNotFitTheConfiguration) {
  std::vector<PlainTensor> tensors = LlamaTensors(TinyLlamaConfig(), DType::kF32);
  for (PlainTensor& tensor : tensors) {
    if (tensor.name == "model.layers.1.mlp.down_proj.weight") {
      tensor.shape = {48, 32};
    }
  }
  WriteWeights(folder_.path(), tensors);
  const absl::Status status = LoadLlamaStage(options_, nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
  EXPECT_THAT(message, HasSubstr("model.layers.1.mlp.down_proj.weight"));
  EXPECT_THAT(message, HasSubstr("[32, 48] by config.json, found [48, 32]"));
}

TEST(ShardLayersTest, GivesTheRemainderToTheEarlierShards) {
  std::int32_t next = 0;
  const std::vector<std::int32_t> sizes = {3, 3, 2, 2};
  for (std::int32_t shard = 0; shard < 4; ++shard) {
    const auto range = ShardLayers(10, shard, 4);
    ASSERT_TRUE(range.ok());
    EXPECT_EQ(range->first, next);
    EXPECT_EQ(range->last - range->first, sizes[static_cast<std::size_t>(shard)]);
    next = range->last;
  }
  EXPECT_EQ(next, 10);
}

TEST(ShardLayersTest, RefusesMoreShardsThanLayersAndShardsOutOfRange) {
  EXPECT_EQ(ShardLayers(4, 0, 5).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ShardLayers(4, 2, 2).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ShardLayers(4, -1, 2).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ShardLayers(4, 0, 0).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace yangtuo
