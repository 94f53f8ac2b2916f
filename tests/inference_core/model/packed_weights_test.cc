#include "inference_core/model/packed_weights.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <string>
#include <vector>

#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/model/llama_stage.h"
#include "inference_core/model/llama_weights.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ReadAll(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void WriteAll(const fs::path& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
}

std::string PackedBytesOf(const LlamaWeights& weights) {
  std::string all;
  const auto add = [&](const kernels::Linear& linear) {
    for (const std::span<const std::byte> part : linear.packed()) {
      all.append(reinterpret_cast<const char*>(part.data()), part.size());
    }
  };
  for (const LayerWeights& layer : weights.layers) {
    add(layer.qkv);
    add(layer.attention_out);
    add(layer.gate_up);
    add(layer.down);
  }
  add(weights.head->logits);
  return all;
}

class PackedWeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteTestModel({.config = TinyLlamaConfig(), .tokenizer = {}}, model_.path());
    options_.model = model_.path();
    options_.weight_type = WeightType::kInt4;
    options_.kv_blocks = 4;
    options_.threads = 2;
    options_.packed_weights = kept_.path() / "packed";
    options_.packed_weights_least_bytes = 0;
  }

  // What became of the packed weights when the model was loaded.
  std::string Load() {
    const auto stage = LoadLlamaStage(options_, nullptr);
    EXPECT_TRUE(stage.ok()) << stage.status();
    return stage.ok() ? (*stage)->info().packed_weights : "";
  }

  // The only file in the folder.
  [[nodiscard]] fs::path File() const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(options_.packed_weights)) {
      files.push_back(entry.path());
    }
    EXPECT_EQ(files.size(), 1U);
    return files.at(0);
  }

  absl::StatusOr<LlamaWeights> Weights(PackedWeights* packed) const {
    const auto checkpoint = OpenCheckpoint(model_.path());
    auto workspace =
        kernels::MatmulWorkspace::Create({.type = kernels::MatmulType::kInt4, .threads = 2});
    if (!checkpoint.ok() || !workspace.ok()) {
      return absl::InternalError("the test's model does not open");
    }
    return LoadLlamaWeights(*checkpoint->tensors, checkpoint->config, {.first = 0, .last = 2},
                            *workspace, packed);
  }

  TempDir model_;
  TempDir kept_;
  StageOptions options_;
};

TEST_F(PackedWeightsTest, AreWrittenAtTheFirstStartAndReadAtTheNext) {
  EXPECT_THAT(Load(), StartsWith("written: "));
  const std::string written = ReadAll(File());
  EXPECT_THAT(Load(), StartsWith("read "));
  EXPECT_EQ(ReadAll(File()), written);
}

TEST_F(PackedWeightsTest, MayBeKeptInTheModelsOwnFolder) {
  options_.packed_weights = model_.path();
  EXPECT_THAT(Load(), StartsWith("written: "));
  EXPECT_THAT(Load(), StartsWith("read "));
}

TEST_F(PackedWeightsTest, ReadAreWhatPackingGives) {
  const fs::path file = kept_.path() / "weights";
  auto made = PackedWeights::Create(file, "key");
  ASSERT_TRUE(made.ok()) << made.status();
  const auto packed = Weights(&*made);
  ASSERT_TRUE(packed.ok()) << packed.status();
  ASSERT_TRUE(made->Commit().ok());
  auto kept = PackedWeights::Open(file, "key");
  ASSERT_TRUE(kept.ok()) << kept.status();
  const auto read = Weights(&*kept);
  ASSERT_TRUE(read.ok()) << read.status();
  const auto direct = Weights(nullptr);
  ASSERT_TRUE(direct.ok());
  EXPECT_GT(PackedBytesOf(*direct).size(), 10'000U);
  EXPECT_TRUE(PackedBytesOf(*read) == PackedBytesOf(*direct));
  EXPECT_GT(direct->loss().relative(), 0.01);
  EXPECT_EQ(read->loss().relative(), direct->loss().relative());
  EXPECT_EQ(PackedWeights::Open(file, "another key").status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(PackedWeightsTest, DamagedAreNoticedAndWrittenAnew) {
  Load();
  const fs::path file = File();
  const std::string whole = ReadAll(file);
  // Any byte of a product, its record or its content; the rest of a page is not looked at.
  for (const std::size_t at : {std::size_t{4096}, std::size_t{4105}, std::size_t{4116},
                               std::size_t{4200}, whole.size() - 1}) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 4);
    WriteAll(file, damaged);
    EXPECT_THAT(Load(), StartsWith("written: ")) << at;
    EXPECT_TRUE(ReadAll(file) == whole) << at;
  }
}

TEST_F(PackedWeightsTest, CutAnywhereAreNoticed) {
  Load();
  const fs::path file = File();
  const std::string whole = ReadAll(file);
  for (std::size_t size = 0; size < whole.size(); size += 1 + whole.size() / 40) {
    WriteAll(file, whole.substr(0, size));
    EXPECT_THAT(Load(), StartsWith("written: ")) << size;
  }
}

TEST_F(PackedWeightsTest, OfAModelThatWasChangedInPlaceAreNotTaken) {
  Load();
  // The same sizes and, as a copy with preserved times would have, the same times: only the
  // comparison of rows can tell.
  const fs::path weights = model_.path() / "model.safetensors";
  const auto time = fs::last_write_time(weights);
  std::string bytes = ReadAll(weights);
  for (std::size_t at = bytes.size() / 2; at + 4 < bytes.size(); at += 4) {
    bytes[at + 2] = static_cast<char>(bytes[at + 2] ^ 0x40);
  }
  WriteAll(weights, bytes);
  fs::last_write_time(weights, time);
  EXPECT_THAT(Load(), StartsWith("written: "));
}

TEST_F(PackedWeightsTest, AreNotKeptWhereTheyGainNothing) {
  options_.weight_type = WeightType::kInt8;
  EXPECT_EQ(Load(), "");
  options_.weight_type = WeightType::kInt4;
  options_.packed_weights_least_bytes = std::int64_t{1} << 30;
  EXPECT_EQ(Load(), "");
  options_.packed_weights.clear();
  options_.packed_weights_least_bytes = 0;
  EXPECT_EQ(Load(), "");
}

TEST_F(PackedWeightsTest, ThatCannotBeWrittenDoNotKeepAModelFromLoading) {
  WriteAll(kept_.path() / "packed", "a file where a folder should be");
  EXPECT_THAT(Load(), HasSubstr("not written: "));
}

}  // namespace
}  // namespace yangtuo
