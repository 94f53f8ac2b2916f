#include <cstring>
#include <immintrin.h>
#include <utility>

#include "inference_core/kernels/grouped_kernels.h"

// gcc 12 warns of the registers that its own intrinsics leave undefined on purpose.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

// Every function here carries the instruction set itself: nothing that other files share may be
// compiled for it.
#define YANGTUO_GROUPED [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]]

namespace yangtuo::kernels {
namespace {

#include "inference_core/kernels/grouped_body.h"

struct Avx512Vectors {
  static constexpr std::size_t kRows = 8;
  static constexpr std::size_t kVectors = 1;
  static constexpr std::int32_t kInt8Zero = 128;
  using Int = __m512i;
  using Float = __m512;
  YANGTUO_GROUPED_INLINE static Int Load(const void* src) { return _mm512_loadu_si512(src); }
  YANGTUO_GROUPED_INLINE static Int Broadcast4(const std::int8_t* x) {
    std::int32_t four = 0;
    std::memcpy(&four, x, sizeof(four));
    return _mm512_set1_epi32(four);
  }
  YANGTUO_GROUPED_INLINE static Int Zero() { return _mm512_setzero_si512(); }
  YANGTUO_GROUPED_INLINE static Int Low(Int both) {
    return _mm512_and_si512(both, _mm512_set1_epi8(15));
  }
  YANGTUO_GROUPED_INLINE static Int High(Int both) { return Low(_mm512_srli_epi16(both, 4)); }
  YANGTUO_GROUPED_INLINE static Int AddInt8(Int sum, Int w, Int four) {
    return _mm512_dpbusd_epi32(sum, _mm512_xor_si512(w, _mm512_set1_epi8(-128)), four);
  }
  YANGTUO_GROUPED_INLINE static Int AddCodes(Int sum, Int codes, Int four) {
    return _mm512_dpbusd_epi32(sum, codes, four);
  }
  YANGTUO_GROUPED_INLINE static Int FinishCodes(Int sum) { return sum; }
  YANGTUO_GROUPED_INLINE static Float Broadcast(float value) { return _mm512_set1_ps(value); }
  YANGTUO_GROUPED_INLINE static Float LoadFloats(const float* src) { return _mm512_loadu_ps(src); }
  YANGTUO_GROUPED_INLINE static void StoreFloats(float* dst, Float v) { _mm512_storeu_ps(dst, v); }
  YANGTUO_GROUPED_INLINE static Float ToFloat(Int sum, std::int32_t bias) {
    return _mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_set1_epi32(bias)));
  }
  YANGTUO_GROUPED_INLINE static Float Multiply(Float a, Float b) { return _mm512_mul_ps(a, b); }
  YANGTUO_GROUPED_INLINE static Float Add(Float a, Float b) { return _mm512_add_ps(a, b); }
};

}  // namespace

const GroupedKernels& Avx512VnniGroupedKernels() { return GroupedKernelsIn<Avx512Vectors>(); }

}  // namespace yangtuo::kernels
