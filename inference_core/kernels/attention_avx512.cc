#include <algorithm>
#include <cstring>
#include <limits>

#include "inference_core/kernels/attention_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "inference_core/kernels/narrow_lanes.h"

#define YANGTUO_AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,fma"

namespace yangtuo::kernels {
namespace {

[[gnu::target(YANGTUO_AVX512_TARGET), gnu::always_inline]] inline __m512i AddProductsOfPairs(
    __m512i sum, __m512i stored, __m512i factor) {
  return _mm512_add_epi32(sum, _mm512_madd_epi16(stored, factor));
}

#include "inference_core/kernels/attention_avx512.h"

struct Bf16 : FloatSums {
  static constexpr KvType kType = KvType::kBf16;
  static constexpr std::int64_t kStepBytes = 4;
  static constexpr std::int64_t kFactorBytes = 8;
  struct Stored {
    __m512 first;
    __m512 second;
  };
  using Factor = Stored;
  YANGTUO_AVX512_INLINE Stored Load(const std::byte* src) {
    // Not _mm512_slli_epi32: GCC 12 takes its unused operand for an uninitialized one.
    const auto pairs = reinterpret_cast<IntLanes>(_mm512_loadu_si512(src));
    return {.first = reinterpret_cast<__m512>(pairs << 16),
            .second = reinterpret_cast<__m512>(pairs & -65536)};
  }
  YANGTUO_AVX512_INLINE Stored WithoutSecond(const Stored& stored) {
    return {.first = stored.first, .second = _mm512_setzero_ps()};
  }
  YANGTUO_AVX512_INLINE Factor LoadFactor(const std::byte* src) {
    const auto* const pair = reinterpret_cast<const float*>(src);
    return {.first = _mm512_set1_ps(pair[0]), .second = _mm512_set1_ps(pair[1])};
  }
  // Fused or not: the products are exact.
  YANGTUO_AVX512_INLINE Sum Add(Sum sum, const Stored& stored, const Factor& factor) {
    sum = _mm512_fmadd_ps(stored.second, factor.second, sum);
    return _mm512_fmadd_ps(stored.first, factor.first, sum);
  }
  YANGTUO_AVX512_INLINE void StoreFactors(std::byte* dst, const Lanes& lanes) {
    std::memcpy(dst, &lanes, sizeof(lanes));
  }
};

#include "inference_core/kernels/attention_body.h"

}  // namespace

const AttentionKernels& Avx512AttentionKernels() {
  static const AttentionKernels kernels = KernelsNamed("avx512");
  return kernels;
}

}  // namespace yangtuo::kernels

#else

namespace yangtuo::kernels {
const AttentionKernels& Avx512AttentionKernels() { return PortableAttentionKernels(); }
}  // namespace yangtuo::kernels

#endif
