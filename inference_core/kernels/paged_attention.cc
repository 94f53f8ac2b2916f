#include "inference_core/kernels/paged_attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <omp.h>

#include "inference_core/base/cpu.h"
#include "inference_core/kernels/parallel.h"

namespace yangtuo::kernels {
namespace {

// Products of queries and keys below which waking a team costs more than it saves.
constexpr std::int64_t kTeamWork = std::int64_t{1} << 18;
// Tasks for each thread, at least, where the batch can be cut so finely.
constexpr std::int64_t kTasksPerThread = 2;
constexpr std::int64_t kTileSize = kTileQueries;
// Of a cache line: room for a top and a total after the sums.
constexpr std::int64_t kLineFloats = 16;

std::int64_t SpansOf(std::int64_t positions) {
  return (positions + kSpanPositions - 1) / kSpanPositions;
}

}  // namespace

const AttentionKernels* AttentionKernelsOf(AttentionPath path) {
  const CpuFeatures& cpu = GetCpuFeatures();
  const bool bf16 = cpu.avx512_bf16 && cpu.avx512_vnni;
  switch (path) {
    case AttentionPath::kFastest:
      return bf16         ? &Avx512Bf16AttentionKernels()
             : cpu.avx512 ? &Avx512AttentionKernels()
             : cpu.avx2   ? &Avx2AttentionKernels()
                          : &PortableAttentionKernels();
    case AttentionPath::kPortable:
      return &PortableAttentionKernels();
    case AttentionPath::kAvx2:
      return cpu.avx2 ? &Avx2AttentionKernels() : nullptr;
    case AttentionPath::kAvx512:
      return cpu.avx512 ? &Avx512AttentionKernels() : nullptr;
    case AttentionPath::kAvx512Bf16:
      return bf16 ? &Avx512Bf16AttentionKernels() : nullptr;
  }
  return nullptr;
}

struct PagedAttention::Layer {
  const Shape& shape;
  const AttentionKernels& kernels;
  Rows<const float> queries;
  const std::byte* data;
  Rows<float> y;

  [[nodiscard]] std::int64_t Group() const { return shape.heads / shape.kv.kv_heads; }
};

namespace {

// Queries [first, first + count) of a bundle's on one kv head: heads of a group within a row, then
// the next row.
class HeadQueries {
 public:
  template <typename Layer>
  HeadQueries(const Layer& layer, const PagedAttention::Bundle& bundle, std::int64_t kv_head,
              std::int64_t first, std::int64_t count)
      : shape_(layer.shape),
        kernels_(layer.kernels),
        sequence_(*bundle.sequence),
        first_row_(bundle.first),
        group_(layer.Group()),
        kv_head_(kv_head),
        first_(first),
        count_(count),
        layer_(layer.data),
        queries_(layer.queries),
        y_(layer.y) {}

  [[nodiscard]] std::int64_t count() const { return count_; }
  [[nodiscard]] std::int64_t tiles() const { return (count_ + kTileSize - 1) / kTileSize; }
  [[nodiscard]] std::int64_t TileCount(std::int64_t tile) const {
    return std::min(kTileSize, count_ - tile * kTileSize);
  }
  // Positions that the last query sees, and with it any.
  [[nodiscard]] std::int64_t visible() const { return VisibleTo(count_ - 1); }

  void Pack(PagedAttention::Memory& memory) const {
    const float scale = 1.0F / std::sqrt(static_cast<float>(shape_.kv.head_dim));
    for (std::int64_t q = 0; q < count_; ++q) {
      kernels_.Of(shape_.kv.type)
          .pack(queries_.Row(RowOf(q)) + ColumnOf(q), scale, shape_.kv.head_dim,
                static_cast<std::size_t>(q % kTileSize),
                memory.packed[static_cast<std::size_t>(q / kTileSize)]);
    }
  }

  // One span, all tiles; results[tile] are taken by `take(query, result)` before the next tile's.
  template <typename Take>
  void Attend(std::int64_t span, PagedAttention::Memory& memory, const Take& take) const {
    SpanBlocks blocks;
    FindBlocks(span, blocks);
    for (std::int64_t tile = 0; tile < tiles(); ++tile) {
      AttentionTile task{.layout = &shape_.kv,
                         .queries = &memory.packed[static_cast<std::size_t>(tile)],
                         .count = static_cast<std::size_t>(TileCount(tile)),
                         .visible = {},
                         .blocks = &blocks,
                         .scratch = &memory.scratch};
      for (std::size_t q = 0; q < task.count; ++q) {
        const std::int64_t query = tile * kTileSize + static_cast<std::int64_t>(q);
        task.visible[q] =
            std::clamp<std::int64_t>(VisibleTo(query) - span * kSpanPositions, 0, kSpanPositions);
      }
      std::array<Partial, kTileQueries> results;
      kernels_.Of(shape_.kv.type).attend(task, results.data());
      for (std::size_t q = 0; q < task.count; ++q) {
        if (task.visible[q] > 0) {
          take(tile * kTileSize + static_cast<std::int64_t>(q), results[q]);
        }
      }
    }
  }

  void Write(std::int64_t query, const Partial& state) const {
    const float inverse = 1.0F / state.total;
    float* const y = y_.Row(RowOf(query)) + ColumnOf(query);
    for (std::int64_t d = 0; d < shape_.kv.head_dim; ++d) {
      y[d] = state.sums[d] * inverse;
    }
  }

 private:
  [[nodiscard]] std::int64_t RowInSequence(std::int64_t query) const {
    return first_row_ + (first_ + query) / group_;
  }
  [[nodiscard]] std::int64_t RowOf(std::int64_t query) const {
    return sequence_.first_row + RowInSequence(query);
  }
  [[nodiscard]] std::int64_t ColumnOf(std::int64_t query) const {
    return (kv_head_ * group_ + (first_ + query) % group_) * shape_.kv.head_dim;
  }
  [[nodiscard]] std::int64_t VisibleTo(std::int64_t query) const {
    return sequence_.first_position + RowInSequence(query) + 1;
  }

  // The last block stands for those after it, which nobody sees.
  void FindBlocks(std::int64_t span, SpanBlocks& found) const {
    const KvLayout& layout = shape_.kv;
    const std::int64_t first = span * kSpanBlocks;
    const std::int64_t last = (visible() - 1) / kBlockPositions;
    const auto stored = [&](std::int64_t block) {
      return sequence_.blocks[static_cast<std::size_t>(std::min(block, last))];
    };
    for (std::size_t i = 0; i < found.values.size(); ++i) {
      const std::int64_t block = stored(first + static_cast<std::int64_t>(i));
      found.keys[i] = layer_ + layout.KeysAt(kv_head_, block);
      found.values[i] = layer_ + layout.ValuesAt(kv_head_, block);
      found.scales[i] = reinterpret_cast<const float*>(layer_ + layout.ScalesAt(kv_head_, block));
    }
    found.keys.back() = layer_ + layout.KeysAt(kv_head_, stored(first + kSpanBlocks));
  }

  const PagedAttention::Shape& shape_;
  const AttentionKernels& kernels_;
  const SequenceRows& sequence_;
  std::int64_t first_row_;
  std::int64_t group_;
  std::int64_t kv_head_;
  std::int64_t first_;
  std::int64_t count_;
  const std::byte* layer_;
  Rows<const float> queries_;
  Rows<float> y_;
};

// Nothing seen so far.
void Begin(float* sums, std::int64_t value_stride, Partial& state) {
  state = {.sums = sums, .top = -std::numeric_limits<float>::infinity(), .total = 0.0F};
  std::fill_n(sums, value_stride, 0.0F);
}

}  // namespace

PagedAttention::PagedAttention(const Shape& shape)
    : shape_(shape),
      kernels_(AttentionKernelsOf(shape.path)),
      memory_(static_cast<std::size_t>(shape.threads)) {
  assert(kernels_ != nullptr && shape.kv.head_dim <= kMaxHeadDim);
  assert(shape.heads % shape.kv.kv_heads == 0 && shape.kv.head_dim % shape.kv.contracted() == 0);
  const std::int64_t spans = SpansOf(shape.max_positions);
  if (spans > 1 && shape.threads > 1) {
    partials_ = AlignedBuffer<float>(
        static_cast<std::size_t>(kTasksPerThread * shape.threads * spans * kTileSize *
                                 (shape.kv.value_stride() + kLineFloats)));
  }
}

void PagedAttention::PlanBundles(std::span<const SequenceRows> batch, std::int64_t rows) {
  bundles_.clear();
  for (const SequenceRows& sequence : batch) {
    for (std::int64_t first = 0; first < sequence.rows; first += rows) {
      bundles_.push_back(
          {.sequence = &sequence, .first = first, .rows = std::min(rows, sequence.rows - first)});
    }
  }
}

void PagedAttention::PlanPieces() {
  pieces_.clear();
  first_piece_.clear();
  for (std::size_t b = 0; b < bundles_.size(); ++b) {
    const Bundle& bundle = bundles_[b];
    first_piece_.push_back(pieces_.size());
    const std::int64_t spans =
        SpansOf(bundle.sequence->first_position + bundle.first + bundle.rows);
    for (std::int64_t span = 0; span < spans; ++span) {
      pieces_.push_back({.bundle = b, .span = span});
    }
  }
  first_piece_.push_back(pieces_.size());
}

void PagedAttention::Plan(std::span<const SequenceRows> batch) {
  std::int64_t pairs = 0;  // of a row and a position that it sees, at most
  for (const SequenceRows& sequence : batch) {
    pairs += sequence.rows * (sequence.first_position + sequence.rows);
  }
  threads_ = pairs * shape_.heads * shape_.kv.head_dim < kTeamWork ? 1 : shape_.threads;
  const std::int64_t group = shape_.heads / shape_.kv.kv_heads;
  const std::int64_t wanted = threads_ == 1 ? 1 : kTasksPerThread * threads_;
  const auto tasks = [this] {
    return static_cast<std::int64_t>(bundles_.size()) * shape_.kv.kv_heads;
  };
  std::int64_t rows = std::max<std::int64_t>(static_cast<std::int64_t>(kMostQueries) / group, 1);
  PlanBundles(batch, rows);
  while (tasks() < wanted && rows * group > kTileSize && rows > 1) {
    rows = (rows + 1) / 2;
    PlanBundles(batch, rows);
  }
  pieces_.clear();
  if (tasks() < wanted && rows * group <= kTileSize && !partials_.empty()) {
    PlanPieces();
  }
}

PagedAttention::Memory& PagedAttention::OwnMemory() {
  return memory_[static_cast<std::size_t>(omp_get_thread_num())];
}

float* PagedAttention::PartialOf(std::size_t piece, std::int64_t kv_head, std::int64_t query) {
  const std::int64_t at =
      (static_cast<std::int64_t>(piece) * shape_.kv.kv_heads + kv_head) * kTileSize + query;
  return partials_.data() + at * (shape_.kv.value_stride() + kLineFloats);
}

void PagedAttention::RunBundle(const Layer& layer, const Bundle& bundle, std::int64_t kv_head) {
  Memory& memory = OwnMemory();
  const std::int64_t stride = shape_.kv.value_stride();
  const std::int64_t all = bundle.rows * layer.Group();
  constexpr auto kMost = static_cast<std::int64_t>(kMostQueries);
  for (std::int64_t first = 0; first < all; first += kMost) {
    const HeadQueries queries(layer, bundle, kv_head, first, std::min(kMost, all - first));
    queries.Pack(memory);
    for (std::int64_t q = 0; q < queries.count(); ++q) {
      Begin(memory.sums.data() + q * kSumStride, stride,
            memory.states[static_cast<std::size_t>(q)]);
    }
    for (std::int64_t span = 0; span < SpansOf(queries.visible()); ++span) {
      queries.Attend(span, memory, [&](std::int64_t q, const Partial& result) {
        kernels_->join(result, stride, memory.states[static_cast<std::size_t>(q)]);
      });
    }
    for (std::int64_t q = 0; q < queries.count(); ++q) {
      queries.Write(q, memory.states[static_cast<std::size_t>(q)]);
    }
  }
}

void PagedAttention::RunPiece(const Layer& layer, std::size_t piece, std::int64_t kv_head) {
  Memory& memory = OwnMemory();
  const std::int64_t stride = shape_.kv.value_stride();
  const Bundle& bundle = bundles_[pieces_[piece].bundle];
  const HeadQueries queries(layer, bundle, kv_head, 0, bundle.rows * layer.Group());
  queries.Pack(memory);
  for (std::int64_t q = 0; q < queries.count(); ++q) {
    PartialOf(piece, kv_head, q)[stride + 1] = 0.0F;  // sees nothing, unless it is taken below
  }
  queries.Attend(pieces_[piece].span, memory, [&](std::int64_t q, const Partial& result) {
    float* const partial = PartialOf(piece, kv_head, q);
    std::copy_n(result.sums, stride, partial);
    partial[stride] = result.top;
    partial[stride + 1] = result.total;
  });
}

void PagedAttention::JoinPieces(const Layer& layer, std::size_t bundle, std::int64_t kv_head) {
  Memory& memory = OwnMemory();
  const std::int64_t stride = shape_.kv.value_stride();
  const HeadQueries queries(layer, bundles_[bundle], kv_head, 0,
                            bundles_[bundle].rows * layer.Group());
  for (std::int64_t q = 0; q < queries.count(); ++q) {
    Partial state;
    Begin(memory.sums.data(), stride, state);
    for (std::size_t piece = first_piece_[bundle]; piece < first_piece_[bundle + 1]; ++piece) {
      float* const partial = PartialOf(piece, kv_head, q);
      const Partial next{.sums = partial, .top = partial[stride], .total = partial[stride + 1]};
      if (next.total != 0.0F) {  // NaN is taken too
        kernels_->join(next, stride, state);
      }
    }
    queries.Write(q, state);
  }
}

void PagedAttention::Run(Rows<const float> queries, const std::byte* layer, Rows<float> y) {
  const Layer run{.shape = shape_, .kernels = *kernels_, .queries = queries, .data = layer, .y = y};
  const auto bundles = static_cast<std::int64_t>(bundles_.size());
  const std::int64_t kv_heads = shape_.kv.kv_heads;
  if (!pieces_.empty()) {
    ParallelFor(threads_, static_cast<std::int64_t>(pieces_.size()) * kv_heads,
                [&](std::int64_t i) {
                  RunPiece(run, static_cast<std::size_t>(i / kv_heads), i % kv_heads);
                });
    ParallelFor(threads_, bundles * kv_heads, [&](std::int64_t i) {
      JoinPieces(run, static_cast<std::size_t>(i / kv_heads), i % kv_heads);
    });
    return;
  }
  // One head after the other, whose keys stay in the cache; a prompt's last rows, which see most,
  // first.
  ParallelFor(threads_, bundles * kv_heads, [&](std::int64_t i) {
    RunBundle(run, bundles_[static_cast<std::size_t>(bundles - 1 - i % bundles)], i / bundles);
  });
}

}  // namespace yangtuo::kernels
