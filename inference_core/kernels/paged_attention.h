#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/rows.h"

namespace yangtuo::kernels {

constexpr std::int64_t kBlockPositions = 32;
constexpr std::int64_t kMaxHeadDim = 512;

// How one layer's keys and values lie in memory, in floats: [blocks][kv_heads], each head's part of
// a block being its keys transposed, [head_dim][32], then its values, [32][head_dim rounded up to
// 16, zero beyond]. Scores of 32 positions are then sums of vectors with no horizontal step, and a
// head reads one contiguous piece a block.
struct KvLayout {
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;  // at most kMaxHeadDim

  [[nodiscard]] std::int64_t value_stride() const { return (head_dim + 15) / 16 * 16; }
  [[nodiscard]] std::int64_t head_floats() const {
    return kBlockPositions * (head_dim + value_stride());
  }
  [[nodiscard]] std::int64_t block_floats() const { return kv_heads * head_floats(); }
};

// Consecutive positions of one sequence in a batch.
struct SequenceRows {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t first_position = 0;
  std::span<const std::int32_t> blocks;  // of positions 0 .. first_position + rows - 1
};

// Writes keys and values [tokens, kv_heads * head_dim] of a batch to their blocks in `layer`.
void StoreKeysAndValues(const KvLayout& layout, std::span<const SequenceRows> batch,
                        Rows<const float> keys, Rows<const float> values, float* layer);

// Causal attention of a batch over blocks of KV memory, grouped queries included.
//
// A row's result depends on its query and on the keys and values of its sequence up to its own
// position, to the bit: scores are sums over head_dim in order; the sum of weights has 16 partial
// sums by position mod 16, from position 0; the weighted values are summed in position order. How
// rows are grouped into tasks shows nowhere.
class PagedAttention {
 public:
  struct Shape {
    KvLayout kv;
    std::int64_t heads = 0;  // a multiple of kv_heads
    std::int64_t max_positions = 0;
    int threads = 1;
  };
  explicit PagedAttention(const Shape& shape);

  // Cuts a batch into tasks; the same for every layer of a step. `batch` must stay as it is.
  void Plan(std::span<const SequenceRows> batch);

  // y[row] = attention of queries[row], both [tokens, heads * head_dim]. `layer` holds the keys and
  // values of all positions that the planned rows look at, their own included.
  void Run(Rows<const float> queries, const float* layer, Rows<float> y);

 private:
  // Up to kTaskRows consecutive rows of one sequence.
  struct Task {
    const SequenceRows* sequence;
    std::int64_t first;  // of the sequence's rows
    std::int64_t rows;
  };

  Shape shape_;
  std::vector<Task> tasks_;
  int threads_ = 1;              // worth waking for the planned batch
  AlignedBuffer<float> scores_;  // [threads, queries at once, max_positions rounded up]
};

}  // namespace yangtuo::kernels
