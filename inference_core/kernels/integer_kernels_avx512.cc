#include <array>
#include <cstring>
#include <immintrin.h>
#include <utility>

#include "inference_core/kernels/integer_kernels.h"

// gcc 12 warns of the registers that its own intrinsics leave undefined on purpose.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

// Every function here carries the instruction set itself: nothing that other files share may be
// compiled for it.
#define YANGTUO_VNNI [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]]
#define YANGTUO_VNNI_INLINE \
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"), gnu::always_inline]] inline

namespace yangtuo::kernels {
namespace {

// vpdpbusd adds four products of unsigned with signed bytes to each of 16 sums, which wrap around:
// what a sum has too much may be taken away before as well as after. Weights are the unsigned side,
// since only the signed side, the inputs, can be broadcast from memory by the same instruction.

// Rows and tiles whose sums stay in registers: 24 sums, two vectors of weights, and some left.
constexpr std::size_t kRowsAtOnce = 12;
constexpr std::size_t kTilesAtOnce = 2;
// From codes, each row has two sums of a tile: of the group and of all groups.
constexpr std::size_t kCodeRowsAtOnce = 8;
// Expanding costs as much as about so many rows gain by it.
constexpr std::int64_t kCodeRows = 16;
constexpr std::int64_t kVector = 64;
constexpr std::int64_t kSteps = kGroup / kStep;

YANGTUO_VNNI_INLINE __m512i Load(const void* src) { return _mm512_loadu_si512(src); }
YANGTUO_VNNI_INLINE void Store(void* dst, __m512i value) { _mm512_storeu_si512(dst, value); }
YANGTUO_VNNI_INLINE __m512i Broadcast4(const std::int8_t* x) {
  std::int32_t four = 0;
  std::memcpy(&four, x, sizeof(four));
  return _mm512_set1_epi32(four);
}
YANGTUO_VNNI_INLINE std::int32_t SumOf(__m256i eight) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return _mm_cvtsi128_si32(four);
}
// Any address will do: one that cannot be read is not.
YANGTUO_VNNI_INLINE void Prefetch(const std::byte* src) {
  _mm_prefetch(reinterpret_cast<const char*>(src), _MM_HINT_T0);
}

// Signed weights plus 128: RowStart takes 128 times the sum of a row's inputs away.
template <std::size_t kRows, std::size_t kTiles>
YANGTUO_VNNI void SumInt8Rows(const TileProduct& t) {
  const __m512i offset = _mm512_set1_epi8(-128);
  __m512i acc[kRows][kTiles];
#pragma GCC unroll 12
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t j = 0; j < kTiles; ++j) {
      acc[r][j] = Load(t.sums + static_cast<std::int64_t>(r) * t.sums_stride +
                       static_cast<std::int64_t>(j) * kTileColumns);
    }
  }
  const std::byte* weight = t.weight;
  const std::byte* ahead = t.ahead;
  const std::int8_t* x = t.x;
  for (std::int64_t s = t.groups * kSteps; s > 0; --s) {
    __m512i w[kTiles];
#pragma GCC unroll 2
    for (std::size_t j = 0; j < kTiles; ++j) {
      const std::byte* const at = weight + static_cast<std::int64_t>(j) * t.tile_stride;
      Prefetch(ahead + static_cast<std::int64_t>(j) * t.ahead_tile_stride);
      w[j] = _mm512_xor_si512(Load(at), offset);
    }
#pragma GCC unroll 12
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m512i four = Broadcast4(x + r * kStep);
#pragma GCC unroll 2
      for (std::size_t j = 0; j < kTiles; ++j) {
        acc[r][j] = _mm512_dpbusd_epi32(acc[r][j], w[j], four);
      }
    }
    weight += kVector;
    ahead += t.ahead_step;
    x += kRows * kStep;
  }
#pragma GCC unroll 12
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 2
    for (std::size_t j = 0; j < kTiles; ++j) {
      Store(t.sums + static_cast<std::int64_t>(r) * t.sums_stride +
                static_cast<std::int64_t>(j) * kTileColumns,
            acc[r][j]);
    }
  }
}

template <std::size_t kTiles, std::size_t... kRow>
constexpr std::array<TileKernel, sizeof...(kRow)> Int8RowKernels(std::index_sequence<kRow...>) {
  return {SumInt8Rows<kRow + 1, kTiles>...};
}

void SumInt8(const TileProduct& t) {
  static constexpr auto kOneTile = Int8RowKernels<1>(std::make_index_sequence<kRowsAtOnce>());
  static constexpr auto kTwoTiles = Int8RowKernels<2>(std::make_index_sequence<kRowsAtOnce>());
  const auto at = static_cast<std::size_t>(t.rows - 1);
  (t.tiles == 1 ? kOneTile : kTwoTiles)[at](t);
}

// Multipliers as the lower halves of 32-bit numbers, for vpdpwssd, which adds the products of both
// halves: a group's sum of q times x, 32512 at most, is in its lower half and its sign above.
YANGTUO_VNNI_INLINE __m512i LoadMultipliers(const std::int8_t* src) {
  const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src)));
  return _mm512_maskz_mov_epi16(0x55555555U, wide);
}

// A row's bias, -8 times the sum of its inputs, makes codes q + 8 into q.
template <std::size_t kRows>
YANGTUO_VNNI void SumInt4Rows(const TileProduct& t) {
  const __m512i low_half = _mm512_set1_epi8(15);
  __m512i acc[kRows];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
    acc[r] = Load(t.sums + static_cast<std::int64_t>(r) * t.sums_stride);
  }
  const std::byte* codes = t.weight;
  const std::byte* ahead = t.ahead;
  const std::int8_t* multipliers = t.multipliers;
  // As many groups ahead as the codes are.
  const std::int64_t multipliers_ahead =
      ahead == nullptr ? 0 : (ahead - codes) / (kInt4GroupBytes / kTileColumns);
  const std::int8_t* x = t.x;
  const std::int32_t* bias = t.bias;
  for (std::int64_t group = t.groups; group > 0; --group) {
    if (group % (kVector / kTileColumns) == 0) {  // once a cache line
      Prefetch(reinterpret_cast<const std::byte*>(multipliers + multipliers_ahead));
    }
    __m512i sum[kRows];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      sum[r] = _mm512_set1_epi32(bias[r]);
    }
#pragma GCC unroll 4
    for (std::int64_t v = 0; v < kSteps / 2; ++v) {
      Prefetch(ahead + v * kVector);
      const __m512i both = Load(codes + v * kVector);
      const __m512i low = _mm512_and_si512(both, low_half);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half);
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        const std::int8_t* const at = x + v * std::int64_t{kRows} * kStep + r * kStep;
        sum[r] = _mm512_dpbusd_epi32(sum[r], low, Broadcast4(at));
        sum[r] = _mm512_dpbusd_epi32(sum[r], high, Broadcast4(at + kSteps / 2 * kRows * kStep));
      }
    }
    const __m512i factors = LoadMultipliers(multipliers);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      acc[r] = _mm512_dpwssd_epi32(acc[r], sum[r], factors);
    }
    codes += kInt4GroupBytes;
    ahead += kInt4GroupBytes;
    multipliers += kTileColumns;
    x += kGroup * std::int64_t{kRows};
    bias += kRows;
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
    Store(t.sums + static_cast<std::int64_t>(r) * t.sums_stride, acc[r]);
  }
}

template <std::size_t... kRow>
constexpr std::array<TileKernel, sizeof...(kRow)> Int4RowKernels(std::index_sequence<kRow...>) {
  return {SumInt4Rows<kRow + 1>...};
}

void SumInt4(const TileProduct& t) {
  static constexpr auto kKernels = Int4RowKernels(std::make_index_sequence<kCodeRowsAtOnce>());
  kKernels[static_cast<std::size_t>(t.rows - 1)](t);
}

// Bytes q times the 16-bit numbers r, each byte's product on its own: it fits a byte. There is a
// product of 16-bit numbers only, whose low byte is right for even bytes and, when these are
// cleared, its high byte for odd ones.
YANGTUO_VNNI_INLINE __m512i Multiples(__m512i q, __m512i r) {
  const __m512i even_bytes = _mm512_set1_epi16(0x00FF);
  const __m512i even = _mm512_mullo_epi16(q, r);
  const __m512i odd = _mm512_mullo_epi16(_mm512_andnot_si512(even_bytes, q), r);
  return _mm512_ternarylogic_epi32(even, even_bytes, odd, 0xEA);  // (even & even_bytes) | odd
}

// What codes stand for, r * q, as int8 weights.
YANGTUO_VNNI void ExpandCodes(const Expansion& e) {
  const __m512i low_half = _mm512_set1_epi8(15);
  const __m512i eight = _mm512_set1_epi8(8);
  for (std::int64_t group = 0; group < e.groups; ++group) {
    const std::byte* const codes = e.codes + group * kInt4GroupBytes;
    std::byte* const expanded = e.expanded + group * kInt8GroupBytes;
    const __m512i r = _mm512_mullo_epi32(LoadMultipliers(e.multipliers + group * kTileColumns),
                                         _mm512_set1_epi32(0x00010001));
    for (std::int64_t v = 0; v < kSteps / 2; ++v) {
      const __m512i both = Load(codes + v * kVector);
      const __m512i low = _mm512_and_si512(both, low_half);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), low_half);
      Store(expanded + v * kVector, Multiples(_mm512_sub_epi8(low, eight), r));
      Store(expanded + (v + kSteps / 2) * kVector, Multiples(_mm512_sub_epi8(high, eight), r));
    }
  }
}

YANGTUO_VNNI std::int32_t RowStart(std::span<const std::int8_t> x, std::int32_t* bias,
                                   std::int64_t bias_stride) {
  const __m256i ones = _mm256_set1_epi8(1);
  __m256i total = _mm256_setzero_si256();
  for (std::size_t first = 0; first < x.size(); first += std::size_t{kGroup}) {
    const __m256i group = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.data() + first));
    const __m256i eight = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, group);
    total = _mm256_add_epi32(total, eight);
    if (bias != nullptr) {
      *bias = -8 * SumOf(eight);
      bias += bias_stride;
    }
  }
  return -128 * SumOf(total);
}

YANGTUO_VNNI void Scale(const TileResult& t) {
  const __m512 x_scale = _mm512_set1_ps(t.x_scale);
  for (std::int64_t c = 0; c < t.columns; c += kTileColumns) {
    const std::int64_t left = t.columns - c;
    const auto mask = static_cast<__mmask16>(left >= kTileColumns ? 0xFFFF : (1 << left) - 1);
    const __m512 sum = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, t.sums + c));
    const __m512 scaled = _mm512_mul_ps(sum, _mm512_maskz_loadu_ps(mask, t.weight_scales + c));
    _mm512_mask_storeu_ps(t.y + c, mask, _mm512_mul_ps(scaled, x_scale));
  }
}

}  // namespace

const IntegerKernels& Avx512VnniIntegerKernels() {
  static const IntegerKernels kKernels = {
      .name = "avx512_vnni",
      .quantize_row = Avx2IntegerKernels().quantize_row,
      .row_start = RowStart,
      .int8 = SumInt8,
      .int8_block = {.rows = kRowsAtOnce, .tiles = kTilesAtOnce},
      .int4 = SumInt4,
      .int4_block = {.rows = kCodeRowsAtOnce, .tiles = 1},
      .int4_rows = kCodeRows,
      .expand = ExpandCodes,
      .int4_expanded = SumInt8,
      .expanded_has_bias = false,
      .scale = Scale};
  return kKernels;
}

}  // namespace yangtuo::kernels
