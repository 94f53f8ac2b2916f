#include "inference_core/sampling/vocabulary_loops.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <immintrin.h>
#include <iterator>
#include <limits>

namespace yangtuo {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Independent partial results: floating-point reductions are vectorized only when written so.
constexpr std::size_t kLanes = 16;

constexpr float kLowest = -87.0F;
constexpr float kLog2E = 1.44269504088896341F;
constexpr float kLn2High = 0.693359375F;
constexpr float kLn2Low = -2.12194440e-4F;
constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer

// exp for x <= 0 after Cody and Waite: x = n ln 2 + r, exp(r) by a polynomial (Cephes), 2^n through
// the exponent bits. Relative error below 2e-7; 0 below -87 (such a token has a chance of 1e-38).
[[gnu::always_inline]] inline float ExpOfNegative(float x) {
  const float clamped = x > kLowest ? x : kLowest;
  const float shifted = clamped * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float exp_r = (p * r * r + r) + 1.0F;
  const std::int32_t exponent = static_cast<std::int32_t>(n) + 127;
  const float power = std::bit_cast<float>(exponent << 23);
  return x > kLowest ? exp_r * power : 0.0F;
}

// The largest of the lanes' results and of what is left behind the last full lanes.
float LargestOf(std::array<float, kLanes>& lanes, std::span<const float> rest) {
  for (const float value : rest) {
    lanes[0] = value > lanes[0] ? value : lanes[0];
  }
  return *std::max_element(lanes.begin(), lanes.end());
}

[[gnu::always_inline]] inline double Sum(std::span<const float> logits, float largest,
                                         float scale) {
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(ExpOfNegative((logits[i + lane] - largest) * scale));
    }
  }
  double total = 0.0;
  for (; i < logits.size(); ++i) {
    total += static_cast<double>(ExpOfNegative((logits[i] - largest) * scale));
  }
  for (const double sum : sums) {
    total += sum;
  }
  return total;
}

[[gnu::always_inline]] inline void Weigh(std::span<float> logits, float largest, float scale) {
  for (float& value : logits) {
    value = ExpOfNegative((value - largest) * scale);
  }
}

// By hand: with the select of a loop, gcc makes branches or worse. The first operand goes when it
// is larger, so NaN never does.
float LargestBase(std::span<const float> logits) {
  __m128 best[4];
  std::fill(std::begin(best), std::end(best), _mm_set1_ps(-kInfinity));
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t part = 0; part < 4; ++part) {
      best[part] = _mm_max_ps(_mm_loadu_ps(&logits[i + 4 * part]), best[part]);
    }
  }
  std::array<float, kLanes> lanes;
  for (std::size_t part = 0; part < 4; ++part) {
    _mm_storeu_ps(&lanes[4 * part], best[part]);
  }
  return LargestOf(lanes, logits.subspan(i));
}
double SumBase(std::span<const float> logits, float largest, float scale) {
  return Sum(logits, largest, scale);
}
void WeighBase(std::span<float> logits, float largest, float scale) {
  Weigh(logits, largest, scale);
}

// AVX2 without FMA, which would change bits.
[[gnu::target("avx2,no-fma")]] float LargestAvx2(std::span<const float> logits) {
  __m256 low = _mm256_set1_ps(-kInfinity);
  __m256 high = low;
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    low = _mm256_max_ps(_mm256_loadu_ps(&logits[i]), low);
    high = _mm256_max_ps(_mm256_loadu_ps(&logits[i + kLanes / 2]), high);
  }
  std::array<float, kLanes> lanes;
  _mm256_storeu_ps(lanes.data(), low);
  _mm256_storeu_ps(&lanes[kLanes / 2], high);
  return LargestOf(lanes, logits.subspan(i));
}
[[gnu::target("avx2,no-fma")]] double SumAvx2(std::span<const float> logits, float largest,
                                              float scale) {
  return Sum(logits, largest, scale);
}
[[gnu::target("avx2,no-fma")]] void WeighAvx2(std::span<float> logits, float largest, float scale) {
  Weigh(logits, largest, scale);
}

constexpr VocabularyLoops kBase = {
    .largest = LargestBase, .sum_of_weights = SumBase, .to_weights = WeighBase};
constexpr VocabularyLoops kAvx2 = {
    .largest = LargestAvx2, .sum_of_weights = SumAvx2, .to_weights = WeighAvx2};

}  // namespace

const VocabularyLoops& BaseLoops() { return kBase; }

const VocabularyLoops* Avx2Loops() {
  static const bool supported = __builtin_cpu_supports("avx2") != 0;
  return supported ? &kAvx2 : nullptr;
}

const VocabularyLoops& FastestLoops() {
  const VocabularyLoops* avx2 = Avx2Loops();
  return avx2 != nullptr ? *avx2 : kBase;
}

}  // namespace yangtuo
