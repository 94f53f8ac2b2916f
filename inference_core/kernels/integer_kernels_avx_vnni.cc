#include <cstring>
#include <immintrin.h>
#include <utility>

#include "inference_core/kernels/integer_kernels.h"

// Every function here carries the instruction set itself: nothing that other files share may be
// compiled for it.
#define YANGTUO_INTEGER [[gnu::target("avx2,avxvnni")]]

namespace yangtuo::kernels {
namespace {

#include "inference_core/kernels/integer_body_256.h"

// vpdpbusd adds four products of unsigned with signed bytes to each of 8 sums, which wrap around:
// what a sum has too much may be taken away before as well as after.
struct AvxVnniDot {
  static constexpr std::size_t kRows = 6;
  static constexpr std::size_t kCodeRows = 4;

  // Signed weights plus 128: RowStart takes 128 times the sum of a row's inputs away.
  using Weights = __m256i;
  YANGTUO_INTEGER_INLINE static Weights Prepare(__m256i w) {
    return _mm256_xor_si256(w, _mm256_set1_epi8(-128));
  }
  YANGTUO_INTEGER_INLINE static __m256i AddWeights(__m256i sum, Weights weights, __m256i four) {
    return _mm256_dpbusd_avx_epi32(sum, weights, four);
  }

  YANGTUO_INTEGER_INLINE static __m256i AddCodes(__m256i sum, __m256i codes, __m256i four) {
    return _mm256_dpbusd_avx_epi32(sum, codes, four);
  }
  // As the lower halves of 32-bit numbers, for vpdpwssd, which adds the products of both halves: a
  // group's sum of q times x, 32512 at most, is in its lower half and its sign above.
  YANGTUO_INTEGER_INLINE static __m256i Factors(const std::int8_t* multipliers) {
    std::int64_t eight = 0;
    std::memcpy(&eight, multipliers, sizeof(eight));
    return _mm256_and_si256(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(eight)),
                            _mm256_set1_epi32(0xFFFF));
  }
  YANGTUO_INTEGER_INLINE static __m256i AddGroup(__m256i sum, __m256i group, __m256i factors) {
    return _mm256_dpwssd_avx_epi32(sum, group, factors);
  }
};

YANGTUO_INTEGER_INLINE std::int32_t SumOf(__m256i eight) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xB1));
  return _mm_cvtsi128_si32(four);
}

// Bytes q times 16-bit numbers r, each byte's product on its own: it fits a byte. There is a
// product of 16-bit numbers only, whose low byte is right for even bytes and, when these are
// cleared, its high byte for odd ones.
YANGTUO_INTEGER_INLINE __m256i Multiples(__m256i q, __m256i r) {
  const __m256i even_bytes = _mm256_set1_epi16(0x00FF);
  const __m256i even = _mm256_and_si256(_mm256_mullo_epi16(q, r), even_bytes);
  return _mm256_or_si256(even, _mm256_mullo_epi16(_mm256_andnot_si256(even_bytes, q), r));
}

// What codes stand for, r * q, as int8 weights.
YANGTUO_INTEGER void ExpandMultiples(const Expansion& e) {
  const __m256i eight = _mm256_set1_epi8(8);
  for (std::int64_t group = 0; group < e.groups; ++group) {
    const PackedCodes packed{e.codes + group * kInt4GroupBytes, _mm256_set1_epi8(15)};
    std::byte* const dst = e.expanded + group * kInt8GroupBytes;
    for (int half = 0; half < 2; ++half) {
      const __m256i low = AvxVnniDot::Factors(e.multipliers + group * kTileColumns + half * 8);
      const __m256i r = _mm256_or_si256(low, _mm256_slli_epi32(low, 16));
      for (int s = 0; s < kSteps; ++s) {
        Store(dst + s * 64 + half * 32, Multiples(_mm256_sub_epi8(packed(s, half), eight), r));
      }
    }
  }
}

YANGTUO_INTEGER std::int32_t RowStart(std::span<const std::int8_t> x, std::int32_t* bias,
                                      std::int64_t bias_stride) {
  const __m256i ones = _mm256_set1_epi8(1);
  __m256i total = _mm256_setzero_si256();
  for (std::size_t first = 0; first < x.size(); first += std::size_t{kGroup}) {
    const __m256i eight =
        _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), ones, Load(x.data() + first));
    total = _mm256_add_epi32(total, eight);
    if (bias != nullptr) {
      *bias = -8 * SumOf(eight);
      bias += bias_stride;
    }
  }
  return -128 * SumOf(total);
}

}  // namespace

const IntegerKernels& AvxVnniIntegerKernels() {
  static const IntegerKernels kKernels = {.name = "avx_vnni",
                                          .quantize_row = Avx2IntegerKernels().quantize_row,
                                          .row_start = RowStart,
                                          .int8 = SumInt8<AvxVnniDot>,
                                          .int8_block = {.rows = AvxVnniDot::kRows, .tiles = 1},
                                          .int4 = SumInt4<AvxVnniDot>,
                                          .int4_block = {.rows = AvxVnniDot::kCodeRows, .tiles = 1},
                                          .int4_rows = 8,
                                          .expand = ExpandMultiples,
                                          .int4_expanded = SumInt8<AvxVnniDot>,
                                          .expanded_has_bias = false,
                                          .scale = Avx2IntegerKernels().scale};
  return kKernels;
}

}  // namespace yangtuo::kernels
