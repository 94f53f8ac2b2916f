#include <algorithm>
#include <cstring>
#include <limits>

#include "inference_core/kernels/attention_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "inference_core/kernels/narrow_lanes.h"

#define YANGTUO_AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,fma"

namespace yangtuo::kernels {
namespace {

[[gnu::target(YANGTUO_AVX512_TARGET), gnu::always_inline]] inline __m512i AddProductsOfPairs(
    __m512i sum, __m512i stored, __m512i factor) {
  return _mm512_dpwssd_epi32(sum, stored, factor);
}

#include "inference_core/kernels/attention_avx512.h"

struct Bf16 : FloatSums {
  static constexpr KvType kType = KvType::kBf16;
  static constexpr std::int64_t kStepBytes = 4;
  static constexpr std::int64_t kFactorBytes = 4;
  using Stored = __m512i;
  YANGTUO_AVX512_INLINE Stored Load(const std::byte* src) { return _mm512_loadu_si512(src); }
  YANGTUO_AVX512_INLINE Stored WithoutSecond(Stored stored) {
    return _mm512_and_si512(stored, _mm512_set1_epi32(65535));
  }
  YANGTUO_AVX512_INLINE __m512i LoadFactor(const std::byte* src) { return BroadcastPair(src); }
  YANGTUO_AVX512_INLINE Sum Add(Sum sum, Stored stored, __m512i factor) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(stored),
                            reinterpret_cast<__m512bh>(factor));
  }
  YANGTUO_AVX512_INLINE void StoreFactors(std::byte* dst, const Lanes& lanes) {
    StoreUpperHalves(lanes, dst);
  }
};

#include "inference_core/kernels/attention_body.h"

}  // namespace

const AttentionKernels& Avx512Bf16AttentionKernels() {
  static const AttentionKernels kernels = KernelsNamed("avx512_bf16");
  return kernels;
}

}  // namespace yangtuo::kernels

#else

namespace yangtuo::kernels {
const AttentionKernels& Avx512Bf16AttentionKernels() { return PortableAttentionKernels(); }
}  // namespace yangtuo::kernels

#endif
