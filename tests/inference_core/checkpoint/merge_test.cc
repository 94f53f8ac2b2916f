#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "tests/inference_core/checkpoint/rows_of.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// Models and adapters that PyTorch wrote when the tests were built, and what numpy says of them.
class TorchModelsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(Folder("base"))) {
      GTEST_SKIP() << "there was no python3 with torch";
    }
  }
  [[nodiscard]] static fs::path Folder(const std::string& name) {
    return fs::path(YANGTUO_MERGE_FILES) / name;
  }
  [[nodiscard]] static Checkpoint Open(const std::string& name) {
    absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(Folder(name));
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return checkpoint.ok() ? *std::move(checkpoint) : Checkpoint();
  }
  static void ExpectMerged(const std::string& base, const std::vector<std::string>& adapters,
                           const std::string& expected) {
    std::vector<fs::path> folders;
    for (const std::string& adapter : adapters) {
      folders.push_back(Folder(adapter));
    }
    const auto merged = WithAdapters(Open(base), folders);
    ASSERT_TRUE(merged.ok()) << merged.status();
    const Checkpoint golden = Open(expected);
    EXPECT_EQ(merged->config.Canonical(), golden.config.Canonical());
    ExpectSameTensors(*merged->tensors, *golden.tensors);
  }
};

TEST_F(TorchModelsTest, OpensFoldersOfTorchFilesWithAndWithoutAnIndex) {
  EXPECT_EQ(Open("base").format, CheckpointFormat::kTorchBin);
  EXPECT_EQ(Open("base").tensors->tensors().size(), 2U * 9 + 3);
  EXPECT_EQ(Open("base_bf16").tensors->tensors()[0].dtype, DType::kBF16);
}

TEST_F(TorchModelsTest, OneMetaFileIsTheSameModel) {
  const Checkpoint meta = Open("meta_1");
  EXPECT_EQ(meta.format, CheckpointFormat::kMeta);
  EXPECT_EQ(meta.config.vocab, 61);
  EXPECT_EQ(meta.config.ffn, 52);
  EXPECT_EQ(meta.config.kv_heads, 2);
  EXPECT_EQ(meta.config.context_tokens, 2048);
  ExpectSameTensors(*meta.tensors, *Open("base").tensors);
}

TEST_F(TorchModelsTest, MetaShardsAreJoinedByRowsAndColumnsThoughTheLastHasMoreRows) {
  ExpectSameTensors(*Open("meta_2").tensors, *Open("base").tensors);
}

TEST_F(TorchModelsTest, AMergeGivesTheBitsOfAnIndependentComputation) {
  ExpectMerged("base", {"lora_first"}, "expect_first");
}

TEST_F(TorchModelsTest, TwoAdaptersAreMergedInTheirOrderAndRoundedAfterEach) {
  ExpectMerged("base", {"lora_first", "lora_second"}, "expect_both");
}

TEST_F(TorchModelsTest, AMergeOntoAMergeIsTheMergeOfBoth) {
  ExpectMerged("expect_first", {"lora_second"}, "expect_both");
}

TEST_F(TorchModelsTest, FactorsOfTransposedWeightsAreTransposed) {
  ExpectMerged("base", {"lora_transposed"}, "expect_transposed");
}

TEST_F(TorchModelsTest, ABaseOfOtherTypesIsRoundedOnceOnly) {
  ExpectMerged("base_f32", {"lora_first"}, "expect_of_f32");
  ExpectMerged("base_bf16", {"lora_first"}, "expect_of_bf16");
}

TEST_F(TorchModelsTest, MetaFoldersAreMergedAlike) {
  ExpectMerged("meta_2", {"lora_first"}, "expect_first");
}

TEST_F(TorchModelsTest, AMergeOfRank64GivesTheBitsOfAnIndependentComputation) {
  ExpectMerged("large", {"lora_large"}, "expect_large");
}

TEST_F(TorchModelsTest, RowsReadInAnyPiecesAreTheSame) {
  const std::vector<fs::path> adapters = {Folder("lora_large")};
  const auto merged = WithAdapters(Open("large"), adapters);
  ASSERT_TRUE(merged.ok()) << merged.status();
  const auto index = FindTensor(*merged->tensors, "model.layers.1.mlp.down_proj.weight");
  ASSERT_TRUE(index.ok());
  const std::vector<std::byte> whole = RowsOf(*merged->tensors, *index, 0, 320);
  for (const std::int64_t first : {0, 1, 31, 32, 300}) {
    const std::vector<std::byte> part = RowsOf(*merged->tensors, *index, first, 20);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + first * 864 * 2)) << first;
  }
}

TEST(PoemMergeTest, PoemLlamaWithItsAdapterIsPoemAlpacaBitForBit) {
  const std::optional<fs::path> base = SharedData("weights/poem-llama");
  const std::optional<fs::path> adapter = SharedData("weights/poem-alpaca-lora");
  const std::optional<fs::path> golden = SharedData("weights/poem-alpaca");
  if (!base.has_value() || !adapter.has_value() || !golden.has_value()) {
    GTEST_SKIP() << "no shared data beside this checkout";
  }
  const auto opened = OpenCheckpoint(*base);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const std::vector<fs::path> adapters = {*adapter};
  const auto merged = WithAdapters(*opened, adapters);
  ASSERT_TRUE(merged.ok()) << merged.status();
  const auto expected = OpenCheckpoint(*golden);
  ASSERT_TRUE(expected.ok()) << expected.status();
  EXPECT_EQ(merged->config.Canonical(), expected->config.Canonical());
  EXPECT_EQ(merged->tokenizer_model, expected->tokenizer_model);
  ExpectSameTensors(*merged->tensors, *expected->tensors);
}

}  // namespace
}  // namespace yangtuo
