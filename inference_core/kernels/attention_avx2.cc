#include <algorithm>
#include <cstring>
#include <limits>

#include "inference_core/kernels/attention_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "inference_core/kernels/narrow_lanes.h"

#define YANGTUO_ATTENTION [[gnu::target("avx2,fma")]]
#define YANGTUO_AVX2_INLINE [[gnu::target("avx2,fma"), gnu::always_inline]] static inline

namespace yangtuo::kernels {
namespace {

// Sums of floats, of products of `F32` and `Bf16`.
struct FloatSums {
  using Sum = __m256;
  static constexpr std::int64_t kWidth = 8;
  static constexpr std::size_t kQueries = 4;
  YANGTUO_AVX2_INLINE Sum Zero() { return _mm256_setzero_ps(); }
  YANGTUO_AVX2_INLINE Sum LoadSum(const float* src) { return _mm256_loadu_ps(src); }
  YANGTUO_AVX2_INLINE void StoreSum(float* dst, Sum sum) { _mm256_storeu_ps(dst, sum); }
  YANGTUO_AVX2_INLINE void StoreFactors(std::byte* dst, const Lanes& lanes) {
    std::memcpy(dst, &lanes, sizeof(lanes));
  }
};

YANGTUO_AVX2_INLINE __m256 BroadcastFloat(const std::byte* src) {
  return _mm256_broadcast_ss(reinterpret_cast<const float*>(src));
}

struct F32 : FloatSums {
  static constexpr KvType kType = KvType::kF32;
  static constexpr std::int64_t kStepBytes = 4;
  static constexpr std::int64_t kFactorBytes = 4;
  using Stored = __m256;
  YANGTUO_AVX2_INLINE Stored Load(const std::byte* src) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(src));
  }
  YANGTUO_AVX2_INLINE Stored WithoutSecond(Stored stored) { return stored; }
  YANGTUO_AVX2_INLINE __m256 LoadFactor(const std::byte* src) { return BroadcastFloat(src); }
  // Not fused: other CPUs could not do the same at this speed.
  YANGTUO_AVX2_INLINE Sum Add(Sum sum, Stored stored, __m256 factor) {
    return _mm256_add_ps(sum, _mm256_mul_ps(stored, factor));
  }
};

struct Bf16 : FloatSums {
  static constexpr KvType kType = KvType::kBf16;
  static constexpr std::int64_t kStepBytes = 4;
  static constexpr std::int64_t kFactorBytes = 8;
  struct Stored {
    __m256 first;
    __m256 second;
  };
  using Factor = Stored;
  YANGTUO_AVX2_INLINE Stored Load(const std::byte* src) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
    return {.first = _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)),
            .second = _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32(-65536)))};
  }
  YANGTUO_AVX2_INLINE Stored WithoutSecond(const Stored& stored) {
    return {.first = stored.first, .second = _mm256_setzero_ps()};
  }
  YANGTUO_AVX2_INLINE Factor LoadFactor(const std::byte* src) {
    return {.first = BroadcastFloat(src), .second = BroadcastFloat(src + 4)};
  }
  // Fused or not: the products are exact.
  YANGTUO_AVX2_INLINE Sum Add(Sum sum, const Stored& stored, const Factor& factor) {
    sum = _mm256_fmadd_ps(stored.second, factor.second, sum);
    return _mm256_fmadd_ps(stored.first, factor.first, sum);
  }
};

struct Int8 {
  static constexpr KvType kType = KvType::kInt8;
  static constexpr std::int64_t kWidth = 8;
  static constexpr std::size_t kQueries = 4;
  static constexpr std::int64_t kStepBytes = 2;
  static constexpr std::int64_t kFactorBytes = 4;
  using Sum = __m256i;
  using Stored = __m256i;
  YANGTUO_AVX2_INLINE Sum Zero() { return _mm256_setzero_si256(); }
  YANGTUO_AVX2_INLINE Sum LoadSum(const float* src) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(src));
  }
  YANGTUO_AVX2_INLINE void StoreSum(float* dst, Sum sum) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst), sum);
  }
  YANGTUO_AVX2_INLINE Stored Load(const std::byte* src) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(src)));
  }
  YANGTUO_AVX2_INLINE Stored WithoutSecond(Stored stored) {
    return _mm256_and_si256(stored, _mm256_set1_epi32(65535));
  }
  YANGTUO_AVX2_INLINE __m256i LoadFactor(const std::byte* src) {
    std::int32_t pair = 0;
    std::memcpy(&pair, src, sizeof(pair));
    return _mm256_set1_epi32(pair);
  }
  YANGTUO_AVX2_INLINE Sum Add(Sum sum, Stored stored, __m256i factor) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(stored, factor));
  }
  YANGTUO_AVX2_INLINE void StoreFactors(std::byte* dst, const Lanes& lanes) {
    StoreRoundedShorts(lanes, dst);
  }
};

#include "inference_core/kernels/attention_body.h"

}  // namespace

const AttentionKernels& Avx2AttentionKernels() {
  static const AttentionKernels kernels = KernelsNamed("avx2");
  return kernels;
}

}  // namespace yangtuo::kernels

#else

namespace yangtuo::kernels {
const AttentionKernels& Avx2AttentionKernels() { return PortableAttentionKernels(); }
}  // namespace yangtuo::kernels

#endif
