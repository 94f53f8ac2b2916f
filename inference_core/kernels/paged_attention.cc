#include "inference_core/kernels/paged_attention.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <limits>
#include <omp.h>

#include "inference_core/kernels/lanes.h"
#include "inference_core/kernels/parallel.h"
#include "inference_core/kernels/simd_path.h"

namespace yangtuo::kernels {
namespace {

constexpr std::int64_t kTaskRows = 4;
// Queries that share one reading of keys and values.
constexpr std::int64_t kMaxQueries = 4;
// Products of queries and keys below which waking a team costs more than it saves.
constexpr std::int64_t kTeamWork = std::int64_t{1} << 18;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// Up to kMaxQueries queries on one head of one sequence.
struct Bundle {
  const float* head;  // this kv head's part of block 0 of the layer's memory
  std::int64_t block_floats;
  const std::int32_t* blocks;
  std::int64_t head_dim;
  std::int64_t value_stride;
  float scale;
  float* scores;  // [kMaxQueries, score_stride]
  std::int64_t score_stride;
  // One each: the query, where its result goes, and the last position it sees.
  std::array<const float*, kMaxQueries> query;
  std::array<float*, kMaxQueries> y;
  std::array<std::int64_t, kMaxQueries> last;

  [[nodiscard]] const float* Keys(std::int64_t block) const {
    return head + blocks[block] * block_floats;
  }
  [[nodiscard]] float* ScoresOf(std::size_t q) const {
    return scores + static_cast<std::int64_t>(q) * score_stride;
  }
  [[nodiscard]] const float* Values(std::int64_t block) const {
    return Keys(block) + head_dim * kBlockPositions;
  }
};

// scores[q][p] = query . key * scale for the positions of one block, minus infinity after `last`.
template <std::size_t kQueries>
[[gnu::always_inline]] inline void ScoreBlock(const Bundle& b, std::int64_t block) {
  const float* key = b.Keys(block);
  Lanes sums[kQueries][2] = {};
  for (std::int64_t d = 0; d < b.head_dim; ++d, key += kBlockPositions) {
    Lanes low;
    Lanes high;
    LoadLanes(key, low);
    LoadLanes(key + kLanes, high);
    for (std::size_t q = 0; q < kQueries; ++q) {
      const float x = b.query[q][d];
      sums[q][0] += low * x;
      sums[q][1] += high * x;
    }
  }
  for (std::size_t q = 0; q < kQueries; ++q) {
    float* const scores = b.ScoresOf(q) + block * kBlockPositions;
    StoreLanes(sums[q][0] * b.scale, scores);
    StoreLanes(sums[q][1] * b.scale, scores + kLanes);
    // Beyond `last` the memory holds anything.
    const std::int64_t valid = b.last[q] + 1 - block * kBlockPositions;
    for (std::int64_t p = std::max<std::int64_t>(valid, 0); p < kBlockPositions; ++p) {
      scores[p] = kMinusInfinity;
    }
  }
}

// scores = exp(scores - largest); returns their sum.
[[gnu::always_inline]] inline float ExponentiateScores(float* scores, std::int64_t count) {
  Lanes largest = Lanes{} + kMinusInfinity;
  for (std::int64_t p = 0; p < count; p += kLanes) {
    Lanes s;
    LoadLanes(scores + p, s);
    largest = s > largest ? s : largest;
  }
  float top = kMinusInfinity;
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    top = std::max(top, static_cast<float>(largest[lane]));
  }
  Lanes sums = {};
  for (std::int64_t p = 0; p < count; p += kLanes) {
    Lanes s;
    LoadLanes(scores + p, s);
    s -= top;
    ExpLanes(s);
    StoreLanes(s, scores + p);
    sums += s;
  }
  return SumOfLanes(sums);
}

// Positions [first, last) of block `block`, counted within it.
struct BlockRange {
  std::int64_t block;
  std::int64_t first;
  std::int64_t last;
};

// sums[q] += weight[q][p] * value[p] for the positions of `range`, in order.
template <std::size_t kQueries>
[[gnu::always_inline]] inline void AddValues(const Bundle& b, const BlockRange& range,
                                             const std::array<float*, kQueries>& weights,
                                             const std::array<float*, kQueries>& sums) {
  const float* const values = b.Values(range.block);
  for (std::int64_t d = 0; d < b.value_stride; d += kLanes) {
    Lanes acc[kQueries];
    for (std::size_t q = 0; q < kQueries; ++q) {
      LoadLanes(sums[q] + d, acc[q]);
    }
    for (std::int64_t p = range.first; p < range.last; ++p) {
      Lanes value;
      LoadLanes(values + p * b.value_stride + d, value);
      for (std::size_t q = 0; q < kQueries; ++q) {
        acc[q] += value * weights[q][range.block * kBlockPositions + p];
      }
    }
    for (std::size_t q = 0; q < kQueries; ++q) {
      StoreLanes(acc[q], sums[q] + d);
    }
  }
}

template <std::size_t kQueries>
[[gnu::always_inline]] inline void AttendTo(const Bundle& b) {
  std::int64_t shared_end = b.last[0] + 1;  // positions that every query sees
  std::int64_t end = shared_end;
  for (std::size_t q = 1; q < kQueries; ++q) {
    shared_end = std::min(shared_end, b.last[q] + 1);
    end = std::max(end, b.last[q] + 1);
  }
  const std::int64_t blocks = (end + kBlockPositions - 1) / kBlockPositions;
  for (std::int64_t block = 0; block < blocks; ++block) {
    ScoreBlock<kQueries>(b, block);
  }
  alignas(64) float sums[kQueries][kMaxHeadDim];
  std::array<float*, kQueries> weight_of;
  std::array<float*, kQueries> sum_of;
  float inverse[kQueries];
  for (std::size_t q = 0; q < kQueries; ++q) {
    weight_of[q] = b.ScoresOf(q);
    sum_of[q] = sums[q];
    std::fill_n(sums[q], b.value_stride, 0.0F);
    inverse[q] = 1.0F / ExponentiateScores(weight_of[q], blocks * kBlockPositions);
  }
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t start = block * kBlockPositions;
    const std::int64_t shared = std::clamp<std::int64_t>(shared_end - start, 0, kBlockPositions);
    AddValues<kQueries>(b, {block, 0, shared}, weight_of, sum_of);
    // Later rows of a prompt see more; what others must not see is not even multiplied by zero.
    for (std::size_t q = 0; q < kQueries; ++q) {
      const std::int64_t own =
          std::clamp<std::int64_t>(b.last[q] + 1 - start, shared, kBlockPositions);
      if (own > shared) {
        AddValues<1>(b, {block, shared, own}, {weight_of[q]}, {sum_of[q]});
      }
    }
  }
  for (std::size_t q = 0; q < kQueries; ++q) {
    for (std::int64_t d = 0; d < b.head_dim; ++d) {
      b.y[q][d] = sums[q][d] * inverse[q];
    }
  }
}

[[gnu::always_inline]] inline void AttendToAny(const Bundle& b, std::int64_t queries) {
  switch (queries) {
    case 1:
      return AttendTo<1>(b);
    case 2:
      return AttendTo<2>(b);
    case 3:
      return AttendTo<3>(b);
    default:
      return AttendTo<4>(b);
  }
}

using AttendKernel = void (*)(const Bundle&, std::int64_t);
void AttendBase(const Bundle& b, std::int64_t queries) { AttendToAny(b, queries); }
[[gnu::target("avx2")]] void AttendAvx2(const Bundle& b, std::int64_t queries) {
  AttendToAny(b, queries);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] void AttendAvx512(const Bundle& b,
                                                                        std::int64_t queries) {
  AttendToAny(b, queries);
}

std::int64_t ScoreStride(std::int64_t max_positions) {
  return (max_positions + kBlockPositions - 1) / kBlockPositions * kBlockPositions;
}

}  // namespace

void StoreKeysAndValues(const KvLayout& layout, std::span<const SequenceRows> batch,
                        Rows<const float> keys, Rows<const float> values, float* layer) {
  for (const SequenceRows& sequence : batch) {
    for (std::int64_t r = 0; r < sequence.rows; ++r) {
      const std::int64_t position = sequence.first_position + r;
      const std::int64_t slot = position % kBlockPositions;
      const std::int64_t block =
          sequence.blocks[static_cast<std::size_t>(position / kBlockPositions)];
      float* part = layer + block * layout.block_floats();
      const float* key = keys.Row(sequence.first_row + r);
      const float* value = values.Row(sequence.first_row + r);
      for (std::int64_t h = 0; h < layout.kv_heads; ++h, part += layout.head_floats()) {
        for (std::int64_t d = 0; d < layout.head_dim; ++d) {
          part[d * kBlockPositions + slot] = key[h * layout.head_dim + d];
        }
        std::copy_n(value + h * layout.head_dim, layout.head_dim,
                    part + layout.head_dim * kBlockPositions + slot * layout.value_stride());
      }
    }
  }
}

PagedAttention::PagedAttention(const Shape& shape)
    : shape_(shape),
      scores_(static_cast<std::size_t>(shape.threads * kMaxQueries *
                                       ScoreStride(shape.max_positions))) {
  assert(shape.kv.head_dim <= kMaxHeadDim && shape.heads % shape.kv.kv_heads == 0);
}

void PagedAttention::Plan(std::span<const SequenceRows> batch) {
  tasks_.clear();
  std::int64_t pairs = 0;  // of a row and a position that it sees, at most
  for (const SequenceRows& sequence : batch) {
    pairs += sequence.rows * (sequence.first_position + sequence.rows);
    for (std::int64_t first = 0; first < sequence.rows; first += kTaskRows) {
      tasks_.push_back({&sequence, first, std::min(kTaskRows, sequence.rows - first)});
    }
  }
  threads_ = pairs * shape_.heads * shape_.kv.head_dim < kTeamWork ? 1 : shape_.threads;
}

void PagedAttention::Run(Rows<const float> queries, const float* layer, Rows<float> y) {
  const KvLayout& kv = shape_.kv;
  const std::int64_t group = shape_.heads / kv.kv_heads;
  const std::int64_t stride = ScoreStride(shape_.max_positions);
  const AttendKernel attend = PickSimdPath<AttendKernel>(AttendBase, AttendAvx2, AttendAvx512);
  const std::int64_t tasks = static_cast<std::int64_t>(tasks_.size()) * kv.kv_heads;
  ParallelFor(threads_, tasks, [&](std::int64_t i) {
    const Task& task = tasks_[static_cast<std::size_t>(i / kv.kv_heads)];
    const std::int64_t kv_head = i % kv.kv_heads;
    Bundle bundle{.head = layer + kv_head * kv.head_floats(),
                  .block_floats = kv.block_floats(),
                  .blocks = task.sequence->blocks.data(),
                  .head_dim = kv.head_dim,
                  .value_stride = kv.value_stride(),
                  .scale = 1.0F / std::sqrt(static_cast<float>(kv.head_dim)),
                  .scores = scores_.data() + omp_get_thread_num() * kMaxQueries * stride,
                  .score_stride = stride,
                  .query = {},
                  .y = {},
                  .last = {}};
    // Heads of a group read the same keys, as do the rows of a task.
    const std::int64_t count = task.rows * group;
    for (std::int64_t first = 0; first < count; first += kMaxQueries) {
      const std::int64_t bundled = std::min(kMaxQueries, count - first);
      for (std::int64_t q = 0; q < bundled; ++q) {
        const std::int64_t row = task.first + (first + q) / group;
        const std::int64_t head = kv_head * group + (first + q) % group;
        const auto at = static_cast<std::size_t>(q);
        bundle.query[at] = queries.Row(task.sequence->first_row + row) + head * kv.head_dim;
        bundle.y[at] = y.Row(task.sequence->first_row + row) + head * kv.head_dim;
        bundle.last[at] = task.sequence->first_position + row;
      }
      attend(bundle, bundled);
    }
  });
}

}  // namespace yangtuo::kernels
