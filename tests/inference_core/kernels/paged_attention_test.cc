#include "inference_core/kernels/paged_attention.h"

#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "inference_core/kernels/reference/reference.h"
#include "tests/inference_core/kernels/random_floats.h"

namespace yangtuo::kernels {
namespace {

struct Shape {
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t head_dim;
};

std::string NameOf(const ::testing::TestParamInfo<Shape>& info) {
  return std::to_string(info.param.heads) + "heads_" + std::to_string(info.param.kv_heads) + "kv_" +
         std::to_string(info.param.head_dim) + "dim";
}

// One sequence of `positions` tokens whose queries, keys and values are random rows, in blocks
// scattered over memory that is otherwise full of NaN.
class Sequence {
 public:
  Sequence(const Shape& shape, std::int64_t positions, std::uint32_t seed)
      : shape_(shape),
        positions_(positions),
        q_(RandomFloats(positions * shape.heads * shape.head_dim, seed)),
        k_(RandomFloats(positions * shape.kv_heads * shape.head_dim, seed + 1)),
        v_(RandomFloats(positions * shape.kv_heads * shape.head_dim, seed + 2)),
        blocks_(static_cast<std::size_t>((positions + kBlockPositions - 1) / kBlockPositions)) {
    std::iota(blocks_.begin(), blocks_.end(), 0);
    std::shuffle(blocks_.begin(), blocks_.end(), std::mt19937(seed));
    memory_.assign(blocks_.size() * static_cast<std::size_t>(Layout().block_floats()),
                   std::numeric_limits<float>::quiet_NaN());
  }

  [[nodiscard]] KvLayout Layout() const {
    return {.kv_heads = shape_.kv_heads, .head_dim = shape_.head_dim};
  }

  // Attention of all rows, stored and computed `chunk` rows at a time.
  [[nodiscard]] std::vector<float> Run(std::int64_t chunk, int threads) {
    std::fill(memory_.begin(), memory_.end(), std::numeric_limits<float>::quiet_NaN());
    const std::int64_t width = shape_.heads * shape_.head_dim;
    const std::int64_t kv_width = shape_.kv_heads * shape_.head_dim;
    PagedAttention attention(
        {.kv = Layout(), .heads = shape_.heads, .max_positions = positions_, .threads = threads});
    std::vector<float> y(q_.size());
    for (std::int64_t first = 0; first < positions_; first += chunk) {
      const std::int64_t rows = std::min(chunk, positions_ - first);
      const SequenceRows batch{
          .first_row = 0, .rows = rows, .first_position = first, .blocks = blocks_};
      StoreKeysAndValues(Layout(), {&batch, 1},
                         {k_.data() + first * kv_width, rows, kv_width, kv_width},
                         {v_.data() + first * kv_width, rows, kv_width, kv_width}, memory_.data());
      attention.Plan({&batch, 1});
      attention.Run({q_.data() + first * width, rows, width, width}, memory_.data(),
                    {y.data() + first * width, rows, width, width});
    }
    return y;
  }

  [[nodiscard]] std::vector<double> Expected(std::int64_t position, std::int64_t head) const {
    const std::int64_t kv_head = head / (shape_.heads / shape_.kv_heads);
    const auto dim = static_cast<std::size_t>(shape_.head_dim);
    std::vector<float> keys;
    std::vector<float> values;
    for (std::int64_t p = 0; p <= position; ++p) {
      const auto at = static_cast<std::size_t>((p * shape_.kv_heads + kv_head) * shape_.head_dim);
      for (std::size_t d = 0; d < dim; ++d) {
        keys.push_back(k_[at + d]);
        values.push_back(v_[at + d]);
      }
    }
    const auto at = static_cast<std::size_t>((position * shape_.heads + head) * shape_.head_dim);
    return reference::Attention(std::span(q_).subspan(at, dim), keys, values);
  }

 private:
  Shape shape_;
  std::int64_t positions_;
  std::vector<float> q_;
  std::vector<float> k_;
  std::vector<float> v_;
  std::vector<std::int32_t> blocks_;
  std::vector<float> memory_;
};

class AttentionShapes : public ::testing::TestWithParam<Shape> {};
INSTANTIATE_TEST_SUITE_P(Families, AttentionShapes,
                         ::testing::Values(Shape{4, 4, 32}, Shape{8, 4, 8}, Shape{6, 2, 20},
                                           Shape{8, 1, 128}, Shape{1, 1, 2}),
                         NameOf);

TEST_P(AttentionShapes, AgreesWithTheReference) {
  constexpr std::int64_t kPositions = 101;
  Sequence sequence(GetParam(), kPositions, 1);
  const std::vector<float> y = sequence.Run(kPositions, 2);
  for (std::int64_t position = 0; position < kPositions; ++position) {
    for (std::int64_t head = 0; head < GetParam().heads; ++head) {
      const std::vector<double> expected = sequence.Expected(position, head);
      const auto at =
          static_cast<std::size_t>((position * GetParam().heads + head) * GetParam().head_dim);
      for (std::size_t d = 0; d < expected.size(); ++d) {
        ASSERT_NEAR(y[at + d], expected[d], 3e-6) << position << " " << head << " " << d;
      }
    }
  }
}

TEST_P(AttentionShapes, GivesTheSameBitsHoweverThePromptIsCutAndOnAnyThreads) {
  constexpr std::int64_t kPositions = 101;
  Sequence sequence(GetParam(), kPositions, 2);
  const std::vector<float> at_once = sequence.Run(kPositions, 1);
  for (const std::int64_t chunk : {1, 3, 4, 7, 32, 33, 100}) {
    EXPECT_EQ(sequence.Run(chunk, 2), at_once) << "chunks of " << chunk;
  }
}

TEST(PagedAttentionTest, LeavesOtherSequencesOfTheBatchAlone) {
  const Shape shape{.heads = 4, .kv_heads = 2, .head_dim = 8};
  const KvLayout layout{.kv_heads = 2, .head_dim = 8};
  std::vector<float> memory(static_cast<std::size_t>(3 * layout.block_floats()));
  const std::vector<float> q = RandomFloats(7 * 32, 3);
  const std::vector<float> k = RandomFloats(7 * 16, 4);
  const std::vector<float> v = RandomFloats(7 * 16, 5);
  const std::vector<std::int32_t> first_blocks = {2};
  const std::vector<std::int32_t> second_blocks = {0};
  const SequenceRows batch[] = {
      {.first_row = 0, .rows = 5, .first_position = 0, .blocks = first_blocks},
      {.first_row = 5, .rows = 2, .first_position = 0, .blocks = second_blocks}};
  PagedAttention attention({.kv = layout, .heads = shape.heads, .max_positions = 64, .threads = 2});
  const auto run = [&](std::span<const SequenceRows> sequences) {
    std::vector<float> y(q.size());
    StoreKeysAndValues(layout, sequences, {k.data(), 7, 16, 16}, {v.data(), 7, 16, 16},
                       memory.data());
    attention.Plan(sequences);
    attention.Run({q.data(), 7, 32, 32}, memory.data(), {y.data(), 7, 32, 32});
    return y;
  };
  const std::vector<float> both = run(batch);
  const std::vector<float> second = run({batch + 1, 1});
  EXPECT_TRUE(std::equal(second.begin() + 5 * 32, second.end(), both.begin() + 5 * 32));
}

}  // namespace
}  // namespace yangtuo::kernels
