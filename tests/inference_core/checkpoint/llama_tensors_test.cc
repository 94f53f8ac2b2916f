#include "inference_core/checkpoint/llama_tensors.h"

#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;

TEST(LlamaTensorsTest, ListsEveryTensorOfAModelInTheOrderOfComputation) {
  const LlamaConfig config = TinyLlamaConfig();
  const std::vector<LlamaTensor> tensors = ListLlamaTensors(config);
  const std::vector<PlainTensor> written = LlamaTensors(config, DType::kF32);
  ASSERT_EQ(tensors.size(), written.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(HfName(tensors[i]), written[i].name);
    EXPECT_EQ(tensors[i].shape, written[i].shape);
  }
}

TEST(LlamaTensorsTest, HasNoHeadOfItsOwnWhenEmbeddingsAreTied) {
  LlamaConfig config = TinyLlamaConfig();
  config.tied_embeddings = true;
  EXPECT_EQ(ListLlamaTensors(config).back().part, LlamaPart::kNorm);
}

TEST(LlamaTensorsTest, KnowsATensorsNameInEveryLayout) {
  const LlamaTensor down{.part = LlamaPart::kDown, .layer = 11, .shape = {}};
  EXPECT_EQ(HfName(down), "model.layers.11.mlp.down_proj.weight");
  EXPECT_EQ(MetaName(down), "layers.11.feed_forward.w2.weight");
  EXPECT_EQ(GgufName(down), "blk.11.ffn_down.weight");
  const LlamaTensor head{.part = LlamaPart::kHead, .layer = 0, .shape = {}};
  EXPECT_EQ(HfName(head), "lm_head.weight");
  EXPECT_EQ(MetaName(head), "output.weight");
  EXPECT_EQ(GgufName(head), "output.weight");
}

// The reference's example: 2 heads of 4, Meta's rows take Hugging Face's 0 2 1 3 4 6 5 7.
TEST(RotaryOrderTest, InterleavesTheHalvesOfEachHead) {
  std::vector<std::int64_t> halves;
  for (std::int64_t row = 0; row < 8; ++row) {
    halves.push_back(HalvesRow(row, 4));
  }
  EXPECT_THAT(halves, ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
}

TEST(RotaryOrderTest, TheTwoOrdersAreInverses) {
  for (const std::int64_t head_dim : {2, 6, 8, 128}) {
    for (std::int64_t row = 0; row < 3 * head_dim; ++row) {
      EXPECT_EQ(HalvesRow(InterleavedRow(row, head_dim), head_dim), row);
    }
  }
}

}  // namespace
}  // namespace yangtuo
