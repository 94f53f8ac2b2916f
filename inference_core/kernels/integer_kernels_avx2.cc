#include <algorithm>
#include <cmath>
#include <cstring>
#include <immintrin.h>
#include <limits>

#include "inference_core/kernels/integer_kernels.h"

// Every function here carries the instruction set itself: nothing that other files share may be
// compiled for it.
#define YANGTUO_AVX2 [[gnu::target("avx2")]]
#define YANGTUO_AVX2_INLINE [[gnu::target("avx2"), gnu::always_inline]] inline

namespace yangtuo::kernels {
namespace {

// A tile's columns in two registers of eight.
constexpr std::size_t kHalves = 2;
// Steps of a group.
constexpr std::int64_t kSteps = kGroup / kStep;

YANGTUO_AVX2_INLINE __m256i Load(const void* src) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(src));
}
YANGTUO_AVX2_INLINE void Store(void* dst, __m256i value) {
  _mm256_storeu_si256(static_cast<__m256i*>(dst), value);
}
YANGTUO_AVX2_INLINE __m256i Broadcast4(const std::int8_t* x) {
  std::int32_t four = 0;
  std::memcpy(&four, x, sizeof(four));
  return _mm256_set1_epi32(four);
}

// Any address will do: one that cannot be read is not.
YANGTUO_AVX2_INLINE void Prefetch(const std::byte* src) {
  _mm_prefetch(reinterpret_cast<const char*>(src), _MM_HINT_T0);
}

// sums += what the tile's registers hold.
template <std::size_t kRows>
YANGTUO_AVX2_INLINE void AddSums(const __m256i (&acc)[kRows][kHalves], const TileProduct& t) {
  for (std::size_t r = 0; r < kRows; ++r) {
    for (std::size_t h = 0; h < kHalves; ++h) {
      std::int32_t* const at = t.sums + static_cast<std::int64_t>(r) * t.sums_stride + h * 8;
      Store(at, _mm256_add_epi32(Load(at), acc[r][h]));
    }
  }
}

// vpmaddubsw multiplies unsigned by signed and saturates pairs at 16 bits: |w| times x with w's
// sign is the same product, and 2 * 127 * 127 = 32258 fits.
template <std::size_t kRows>
YANGTUO_AVX2_INLINE void SumInt8Rows(const TileProduct& t) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i acc[kRows][kHalves];
  for (auto& row : acc) {
    row[0] = _mm256_setzero_si256();
    row[1] = _mm256_setzero_si256();
  }
  const std::byte* weight = t.weight;
  const std::int64_t steps = t.groups * kSteps;
  const std::int8_t* x = t.x;
  for (std::int64_t s = 0; s < steps; ++s, weight += 64, x += kRows * kStep) {
    Prefetch(t.ahead + s * t.ahead_step);
    const __m256i w0 = Load(weight);
    const __m256i w1 = Load(weight + 32);
    const __m256i size0 = _mm256_abs_epi8(w0);
    const __m256i size1 = _mm256_abs_epi8(w1);
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m256i four = Broadcast4(x + r * kStep);
      const __m256i pairs0 = _mm256_maddubs_epi16(size0, _mm256_sign_epi8(four, w0));
      const __m256i pairs1 = _mm256_maddubs_epi16(size1, _mm256_sign_epi8(four, w1));
      acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(pairs0, ones));
      acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(pairs1, ones));
    }
  }
  AddSums<kRows>(acc, t);
}

// Multipliers of eight columns as pairs of equal 16-bit numbers, for vpmaddwd.
YANGTUO_AVX2_INLINE __m256i MultiplierPairs(const std::int8_t* multipliers) {
  std::int64_t eight = 0;
  std::memcpy(&eight, multipliers, sizeof(eight));
  // Each byte into the upper half of two 16-bit numbers, then down with its sign.
  const __m256i spread =
      _mm256_shuffle_epi8(_mm256_set1_epi64x(eight),
                          _mm256_setr_epi8(-1, 0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3,
                                           -1, 4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7));
  return _mm256_srai_epi16(spread, 8);
}

// A group's 16-bit sums: eight pairs of codes up to 15 times inputs up to 127 are 30480 at most,
// and with the bias that they start from they are sums of q times x, 16256 at most; what happens on
// the way wraps around and back.
template <std::size_t kRows, typename Codes>
YANGTUO_AVX2_INLINE void AddGroup(const TileProduct& t, std::int64_t group, const Codes& codes,
                                  __m256i (&acc)[kRows][kHalves]) {
  const std::int32_t* const bias = t.bias + group * std::int64_t{kRows};
  const std::int8_t* x = t.x + group * kGroup * std::int64_t{kRows};
  __m256i pairs[kRows][kHalves];
  for (std::size_t r = 0; r < kRows; ++r) {
    pairs[r][0] = _mm256_set1_epi32(bias[r]);
    pairs[r][1] = pairs[r][0];
  }
  for (int s = 0; s < kSteps; ++s, x += kRows * kStep) {
    const __m256i codes0 = codes(s, 0);
    const __m256i codes1 = codes(s, 1);
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m256i four = Broadcast4(x + r * kStep);
      pairs[r][0] = _mm256_add_epi16(pairs[r][0], _mm256_maddubs_epi16(codes0, four));
      pairs[r][1] = _mm256_add_epi16(pairs[r][1], _mm256_maddubs_epi16(codes1, four));
    }
  }
  const std::int8_t* const multipliers = t.multipliers + group * kTileColumns;
  const __m256i factor0 = MultiplierPairs(multipliers);
  const __m256i factor1 = MultiplierPairs(multipliers + 8);
  for (std::size_t r = 0; r < kRows; ++r) {
    acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(pairs[r][0], factor0));
    acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(pairs[r][1], factor1));
  }
}

// One byte a code.
struct ExpandedCodes {
  const std::byte* weight;
  YANGTUO_AVX2_INLINE __m256i operator()(int step, int half) const {
    return Load(weight + step * 64 + half * 32);
  }
};

// Two codes a byte.
struct PackedCodes {
  const std::byte* weight;
  __m256i low_half;
  YANGTUO_AVX2_INLINE __m256i operator()(int step, int half) const {
    const __m256i both = Load(weight + step % 4 * 64 + half * 32);
    return _mm256_and_si256(step < 4 ? both : _mm256_srli_epi16(both, 4), low_half);
  }
};

template <std::size_t kRows>
YANGTUO_AVX2_INLINE void ClearSums(__m256i (&acc)[kRows][kHalves]) {
  for (auto& row : acc) {
    row[0] = _mm256_setzero_si256();
    row[1] = _mm256_setzero_si256();
  }
}

template <std::size_t kRows>
YANGTUO_AVX2_INLINE void SumInt4ExpandedRows(const TileProduct& t) {
  __m256i acc[kRows][kHalves];
  ClearSums<kRows>(acc);
  for (std::int64_t group = 0; group < t.groups; ++group) {
    AddGroup<kRows>(t, group, ExpandedCodes{t.weight + group * kInt8GroupBytes}, acc);
  }
  AddSums<kRows>(acc, t);
}

template <std::size_t kRows>
YANGTUO_AVX2_INLINE void SumInt4Rows(const TileProduct& t) {
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256i acc[kRows][kHalves];
  ClearSums<kRows>(acc);
  for (std::int64_t group = 0; group < t.groups; ++group) {
    const std::byte* const weight = t.weight + group * kInt4GroupBytes;
    for (std::int64_t line = 0; line < kInt4GroupBytes; line += 64) {
      Prefetch(t.ahead + group * kInt4GroupBytes + line);
    }
    AddGroup<kRows>(t, group, PackedCodes{weight, low_half}, acc);
  }
  AddSums<kRows>(acc, t);
}

YANGTUO_AVX2 void SumInt8(const TileProduct& t) {
  switch (t.rows) {
    case 1:
      return SumInt8Rows<1>(t);
    case 2:
      return SumInt8Rows<2>(t);
    case 3:
      return SumInt8Rows<3>(t);
    default:
      return SumInt8Rows<4>(t);
  }
}

YANGTUO_AVX2 void SumInt4(const TileProduct& t) {
  switch (t.rows) {
    case 1:
      return SumInt4Rows<1>(t);
    case 2:
      return SumInt4Rows<2>(t);
    case 3:
      return SumInt4Rows<3>(t);
    default:
      return SumInt4Rows<4>(t);
  }
}

YANGTUO_AVX2 void SumInt4Expanded(const TileProduct& t) {
  switch (t.rows) {
    case 1:
      return SumInt4ExpandedRows<1>(t);
    case 2:
      return SumInt4ExpandedRows<2>(t);
    case 3:
      return SumInt4ExpandedRows<3>(t);
    default:
      return SumInt4ExpandedRows<4>(t);
  }
}

YANGTUO_AVX2 void ExpandCodes(const Expansion& e) {
  const __m256i low_half = _mm256_set1_epi8(15);
  for (std::int64_t group = 0; group < e.groups; ++group) {
    const PackedCodes packed{e.codes + group * kInt4GroupBytes, low_half};
    std::byte* const dst = e.expanded + group * kInt8GroupBytes;
    for (int s = 0; s < kSteps; ++s) {
      Store(dst + s * 64, packed(s, 0));
      Store(dst + s * 64 + 32, packed(s, 1));
    }
  }
}

// Codes 0 .. 15 stand for q + 8, so a group's product with codes exceeds that with q by 8 times the
// sum of x. Two such corrections, of the inputs 4s, 4s+1 and of 4s+2, 4s+3, are kept as 16-bit
// halves of one number: the kernels start from them.
std::int32_t GroupBias(std::span<const std::int8_t> x) {
  std::int32_t even = 0;
  std::int32_t odd = 0;
  for (std::size_t k = 0; k < x.size(); k += 4) {
    even += x[k] + x[k + 1];
    odd += x[k + 2] + x[k + 3];
  }
  const auto low = static_cast<std::uint32_t>(-8 * even) & 0xFFFFU;
  const auto high = static_cast<std::uint32_t>(-8 * odd) << 16U;
  return static_cast<std::int32_t>(high | low);
}

std::int32_t RowStart(std::span<const std::int8_t> x, std::int32_t* bias,
                      std::int64_t bias_stride) {
  if (bias != nullptr) {
    for (std::size_t first = 0; first < x.size(); first += std::size_t{kGroup}) {
      *bias = GroupBias(x.subspan(first, std::size_t{kGroup}));
      bias += bias_stride;
    }
  }
  return 0;
}

YANGTUO_AVX2_INLINE float LargestOf(__m256 values) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, values);
  return *std::max_element(lanes, lanes + 8);
}

YANGTUO_AVX2 float QuantizeRow(std::span<const float> x, std::span<std::int8_t> y) {
  const std::size_t whole = x.size() / 32 * 32;
  const __m256 sign = _mm256_set1_ps(-0.0F);
  __m256 largest_of = _mm256_setzero_ps();
  // Times zero is zero for finite numbers and NaN otherwise.
  __m256 zeros = _mm256_setzero_ps();
  for (std::size_t i = 0; i < whole; i += 8) {
    const __m256 v = _mm256_loadu_ps(x.data() + i);
    largest_of = _mm256_max_ps(largest_of, _mm256_andnot_ps(sign, v));
    zeros = _mm256_add_ps(zeros, _mm256_mul_ps(v, _mm256_setzero_ps()));
  }
  float largest = LargestOf(largest_of);
  bool finite = _mm256_movemask_ps(_mm256_cmp_ps(zeros, zeros, _CMP_UNORD_Q)) == 0;
  for (std::size_t i = whole; i < x.size(); ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  const float inverse = 127.0F / largest;
  if (!finite || !std::isfinite(inverse)) {
    std::fill(y.begin(), y.end(), std::int8_t{0});
    return finite ? 0.0F : std::numeric_limits<float>::quiet_NaN();
  }
  const __m256 scale = _mm256_set1_ps(inverse);
  const __m256i least = _mm256_set1_epi8(-127);
  for (std::size_t i = 0; i < whole; i += 32) {
    __m256i v[4];
    for (std::size_t j = 0; j < 4; ++j) {
      v[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x.data() + i + j * 8), scale));
    }
    // Packing works within 128-bit halves; the permutation puts the four bytes each in order.
    const __m256i words =
        _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    const __m256i ordered =
        _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    Store(y.data() + i, _mm256_max_epi8(ordered, least));
  }
  for (std::size_t i = whole; i < x.size(); ++i) {
    const float scaled = std::clamp(std::nearbyint(x[i] * inverse), -127.0F, 127.0F);
    y[i] = static_cast<std::int8_t>(scaled);
  }
  return largest / 127.0F;
}

YANGTUO_AVX2 void Scale(const TileResult& t) {
  std::int64_t c = 0;
  const __m256 x_scale = _mm256_set1_ps(t.x_scale);
  for (; c + 8 <= t.columns; c += 8) {
    const __m256 sum = _mm256_cvtepi32_ps(Load(t.sums + c));
    const __m256 scaled = _mm256_mul_ps(sum, _mm256_loadu_ps(t.weight_scales + c));
    _mm256_storeu_ps(t.y + c, _mm256_mul_ps(scaled, x_scale));
  }
  for (; c < t.columns; ++c) {
    t.y[c] = static_cast<float>(t.sums[c]) * t.weight_scales[c] * t.x_scale;
  }
}

}  // namespace

const IntegerKernels& Avx2IntegerKernels() {
  static constexpr IntegerKernels kKernels = {.name = "avx2",
                                              .quantize_row = QuantizeRow,
                                              .row_start = RowStart,
                                              .int8 = SumInt8,
                                              .int8_block = {.rows = 4, .tiles = 1},
                                              .int4 = SumInt4,
                                              .int4_block = {.rows = 4, .tiles = 1},
                                              .int4_rows = 4,
                                              .expand = ExpandCodes,
                                              .int4_expanded = SumInt4Expanded,
                                              .expanded_has_bias = true,
                                              .scale = Scale};
  return kKernels;
}

}  // namespace yangtuo::kernels
