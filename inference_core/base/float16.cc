#include "inference_core/base/float16.h"

#include <cassert>
#include <cstddef>

#include "inference_core/base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace yangtuo {
namespace {

#if defined(__x86_64__)
constexpr std::size_t kLanes = 8;

// Return how many elements they converted: all but the last few.
__attribute__((target("avx,f16c"))) std::size_t WidenWithF16c(std::span<const std::uint16_t> x,
                                                              std::span<float> y) {
  std::size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(&x[i]));
    _mm256_storeu_ps(&y[i], _mm256_cvtph_ps(half));
  }
  return i;
}

__attribute__((target("avx,f16c"))) std::size_t NarrowWithF16c(std::span<const float> x,
                                                               std::span<std::uint16_t> y) {
  std::size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(&x[i]), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(&y[i]), half);
  }
  return i;
}
#else
std::size_t WidenWithF16c(std::span<const std::uint16_t>, std::span<float>) { return 0; }
std::size_t NarrowWithF16c(std::span<const float>, std::span<std::uint16_t>) { return 0; }
#endif

}  // namespace

void Bf16ToFloat(std::span<const std::uint16_t> x, std::span<float> y) {
  assert(x.size() == y.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = Bf16ToFloat(x[i]);
  }
}

void FloatToBf16(std::span<const float> x, std::span<std::uint16_t> y) {
  assert(x.size() == y.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    y[i] = FloatToBf16(x[i]);
  }
}

void F16ToFloat(std::span<const std::uint16_t> x, std::span<float> y) {
  assert(x.size() == y.size());
  for (std::size_t i = GetCpuFeatures().f16c ? WidenWithF16c(x, y) : 0; i < x.size(); ++i) {
    y[i] = F16ToFloat(x[i]);
  }
}

void FloatToF16(std::span<const float> x, std::span<std::uint16_t> y) {
  assert(x.size() == y.size());
  for (std::size_t i = GetCpuFeatures().f16c ? NarrowWithF16c(x, y) : 0; i < x.size(); ++i) {
    y[i] = FloatToF16(x[i]);
  }
}

}  // namespace yangtuo
