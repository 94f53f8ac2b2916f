#include <algorithm>
#include <cmath>
#include <cstring>
#include <immintrin.h>
#include <limits>
#include <utility>

#include "inference_core/kernels/integer_kernels.h"

// Every function here carries the instruction set itself: nothing that other files share may be
// compiled for it.
#define YANGTUO_INTEGER [[gnu::target("avx2")]]

namespace yangtuo::kernels {
namespace {

#include "inference_core/kernels/integer_body_256.h"

// Multipliers of eight columns as pairs of equal 16-bit numbers, for vpmaddwd.
YANGTUO_INTEGER_INLINE __m256i MultiplierPairs(const std::int8_t* multipliers) {
  std::int64_t eight = 0;
  std::memcpy(&eight, multipliers, sizeof(eight));
  // Each byte into the upper half of two 16-bit numbers, then down with its sign.
  const __m256i spread =
      _mm256_shuffle_epi8(_mm256_set1_epi64x(eight),
                          _mm256_setr_epi8(-1, 0, -1, 0, -1, 1, -1, 1, -1, 2, -1, 2, -1, 3, -1, 3,
                                           -1, 4, -1, 4, -1, 5, -1, 5, -1, 6, -1, 6, -1, 7, -1, 7));
  return _mm256_srai_epi16(spread, 8);
}

struct Avx2Dot {
  static constexpr std::size_t kRows = 4;
  static constexpr std::size_t kCodeRows = 4;

  // vpmaddubsw multiplies unsigned by signed and saturates pairs at 16 bits: |w| times x with w's
  // sign is the same product, and 2 * 127 * 127 = 32258 fits.
  struct Weights {
    __m256i w;
    __m256i size;
  };
  YANGTUO_INTEGER_INLINE static Weights Prepare(__m256i w) { return {w, _mm256_abs_epi8(w)}; }
  YANGTUO_INTEGER_INLINE static __m256i AddWeights(__m256i sum, const Weights& weights,
                                                   __m256i four) {
    const __m256i pairs = _mm256_maddubs_epi16(weights.size, _mm256_sign_epi8(four, weights.w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }

  // A group's 16-bit sums: eight pairs of codes up to 15 times inputs up to 127 are 30480 at most,
  // and with the bias that they start from they are sums of q times x, 16256 at most; what happens
  // on the way wraps around and back.
  YANGTUO_INTEGER_INLINE static __m256i AddCodes(__m256i sum, __m256i codes, __m256i four) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, four));
  }
  YANGTUO_INTEGER_INLINE static __m256i Factors(const std::int8_t* multipliers) {
    return MultiplierPairs(multipliers);
  }
  YANGTUO_INTEGER_INLINE static __m256i AddGroup(__m256i sum, __m256i group, __m256i factors) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(group, factors));
  }
};

YANGTUO_INTEGER void ExpandCodes(const Expansion& e) {
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

YANGTUO_INTEGER_INLINE float LargestOf(__m256 values) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, values);
  return *std::max_element(lanes, lanes + 8);
}

YANGTUO_INTEGER float QuantizeRow(std::span<const float> x, std::span<std::int8_t> y) {
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

YANGTUO_INTEGER void Scale(const TileResult& t) {
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
                                              .int8 = SumInt8<Avx2Dot>,
                                              .int8_block = {.rows = 4, .tiles = 1},
                                              .int4 = SumInt4<Avx2Dot>,
                                              .int4_block = {.rows = 4, .tiles = 1},
                                              .int4_rows = 4,
                                              .expand = ExpandCodes,
                                              .int4_expanded = SumInt4Expanded<Avx2Dot>,
                                              .expanded_has_bias = true,
                                              .scale = Scale};
  return kKernels;
}

}  // namespace yangtuo::kernels
