#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "inference_core/kernels/kv_layout.h"

namespace yangtuo::kernels {

// The arithmetic of attention: up to kTileQueries queries of one head over one span of positions.
//
// What is computed, whatever the instruction set (to the bit):
//   f32: products rounded, then added, over dimensions (scores) or positions (values) in order.
//   bf16: queries and weights are rounded to bf16 too; products are exact in a float; of each pair
//     the second is added first, then the first. It is what vdpbf16ps does, and fused
//     multiply-adds or plain ones do the same since the products are exact.
//   int8: queries and a span's weights become 15-bit integers with a scale; sums are exact.

// Softmax is taken over spans of this many positions, counted from position 0, whose results are
// joined in order. 512 is the most that keeps int8's sums below 2^31.
constexpr std::int64_t kSpanPositions = 512;
constexpr std::int64_t kSpanBlocks = kSpanPositions / kBlockPositions;
constexpr std::size_t kTileQueries = 8;

// Distances between what belongs to neighbouring queries of a tile: one cache line more than a
// power of two, lest they all fall into the same few sets of a cache.
constexpr std::int64_t kScoreStride = kSpanPositions + 16;       // floats
constexpr std::int64_t kFactorStride = kSpanPositions * 4 + 64;  // bytes
constexpr std::int64_t kSumStride = kMaxHeadDim + 16;            // floats
static_assert(kMaxHeadDim <= kSpanPositions && kSpanPositions * 32767LL * 127 < 1LL << 31);

// One thread's memory while it works on a tile.
struct TileScratch {
  alignas(64) std::array<float, kTileQueries * kScoreStride> scores;
  alignas(64) std::array<std::byte, kTileQueries * kFactorStride> weights;
  alignas(64) std::array<float, kTileQueries * kSumStride> sums;
};

// Queries as the kernels multiply them, made by `pack`.
struct PackedQueries {
  alignas(64) std::array<std::byte, kTileQueries * kFactorStride> factors;
  std::array<float, kTileQueries> scales;  // of integers
};

// Where a head's keys, values and scales of a span's blocks are, as far as any query sees.
struct SpanBlocks {
  std::array<const std::byte*, kSpanBlocks + 1> keys;  // the next span's first one too, if any
  std::array<const std::byte*, kSpanBlocks> values;
  std::array<const float*, kSpanBlocks> scales;
};

// Queries of one kv head over one span; they see its first `visible` positions (0: none).
struct AttentionTile {
  const KvLayout* layout = nullptr;
  const PackedQueries* queries = nullptr;
  std::size_t count = 0;
  std::array<std::int64_t, kTileQueries> visible = {};
  const SpanBlocks* blocks = nullptr;
  TileScratch* scratch = nullptr;
};

// A query's result over a span, or over all spans so far: values weighted by exp(score - top), and
// the sum of the weights.
struct Partial {
  float* sums = nullptr;  // [value_stride]
  float top = 0.0F;
  float total = 0.0F;
};

struct AttentionKernels {
  std::string_view name;
  // Query `at` of `tile`, multiplied by `scale`.
  using Pack = void (*)(const float* query, float scale, std::int64_t head_dim, std::size_t at,
                        PackedQueries& tile);
  // results[q], whose sums lie in the scratch, for the queries that see anything.
  using Attend = void (*)(const AttentionTile& tile, Partial* results);
  struct OfType {
    Pack pack = nullptr;
    Attend attend = nullptr;
  };
  std::array<OfType, 3> types;  // by KvType
  // Takes the result of the next span into `state`.
  void (*join)(const Partial& next, std::int64_t value_stride, Partial& state);

  [[nodiscard]] const OfType& Of(KvType type) const {
    return types[static_cast<std::size_t>(type)];
  }
};

enum class AttentionPath : std::uint8_t { kFastest, kPortable, kAvx2, kAvx512, kAvx512Bf16 };

// The kernels of a path; kFastest: the best that this CPU runs. Null where it cannot run `path`.
[[nodiscard]] const AttentionKernels* AttentionKernelsOf(AttentionPath path);

// The implementations, one file each: each gives attention_body.h its vectors.
[[nodiscard]] const AttentionKernels& PortableAttentionKernels();
[[nodiscard]] const AttentionKernels& Avx2AttentionKernels();
[[nodiscard]] const AttentionKernels& Avx512AttentionKernels();
[[nodiscard]] const AttentionKernels& Avx512Bf16AttentionKernels();

}  // namespace yangtuo::kernels
