#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/attention_kernels.h"
#include "inference_core/kernels/kv_layout.h"
#include "inference_core/kernels/rows.h"

namespace yangtuo::kernels {

// Causal attention of a batch over blocks of KV memory, grouped queries included.
//
// A row's result depends on its query and on the keys and values of its sequence up to its own
// position, to the bit, and on no instruction set: see attention_kernels.h for the arithmetic.
// Softmax is taken over spans of kSpanPositions positions from position 0, joined in order, so
// memory does not grow with the context. How rows are grouped into tasks shows nowhere.
class PagedAttention {
 public:
  struct Shape {
    KvLayout kv;
    std::int64_t heads = 0;  // a multiple of kv_heads
    std::int64_t max_positions = 0;
    int threads = 1;
    AttentionPath path = AttentionPath::kFastest;  // one that this CPU runs
  };
  explicit PagedAttention(const Shape& shape);

  // Cuts a batch into tasks; the same for every layer of a step. `batch` must stay as it is.
  void Plan(std::span<const SequenceRows> batch);

  // y[row] = attention of queries[row], both [tokens, heads * head_dim]. `layer` holds the keys and
  // values of all positions that the planned rows look at, their own included.
  void Run(Rows<const float> queries, const std::byte* layer, Rows<float> y);

  // Implementation from here on.

  // Consecutive rows of one sequence: the queries that share a kv head read its keys together.
  struct Bundle {
    const SequenceRows* sequence = nullptr;
    std::int64_t first = 0;  // of the sequence's rows
    std::int64_t rows = 0;
  };
  // One span of a bundle, where there are fewer bundles than threads.
  struct Piece {
    std::size_t bundle = 0;
    std::int64_t span = 0;
  };
  // One thread's.
  static constexpr std::size_t kTiles = 4;
  static constexpr std::size_t kMostQueries = kTiles * kTileQueries;
  struct Memory {
    TileScratch scratch;
    std::array<PackedQueries, kTiles> packed;
    alignas(64) std::array<float, kMostQueries * kSumStride> sums;
    std::array<Partial, kMostQueries> states;
  };

 private:
  struct Layer;

  void PlanBundles(std::span<const SequenceRows> batch, std::int64_t rows);
  void PlanPieces();
  void RunBundle(const Layer& layer, const Bundle& bundle, std::int64_t kv_head);
  void RunPiece(const Layer& layer, std::size_t piece, std::int64_t kv_head);
  void JoinPieces(const Layer& layer, std::size_t bundle, std::int64_t kv_head);
  [[nodiscard]] Memory& OwnMemory();
  // A query's result over a piece; its top and total are kept after its sums.
  [[nodiscard]] float* PartialOf(std::size_t piece, std::int64_t kv_head, std::int64_t query);

  Shape shape_;
  const AttentionKernels* kernels_;
  std::vector<Bundle> bundles_;
  std::vector<Piece> pieces_;             // of all bundles in order; none: bundles are run whole
  std::vector<std::size_t> first_piece_;  // of each bundle, and one past the last piece
  int threads_ = 1;                       // worth waking for the planned batch
  AlignedBuffer<Memory> memory_;          // [threads]
  AlignedBuffer<float> partials_;
};

}  // namespace yangtuo::kernels
