#include "inference_core/sampling/softmax.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace yangtuo {
namespace {

// Independent partial results: floating-point reductions are vectorized only when written so.
constexpr std::size_t kLanes = 16;
// Weights summed as one number, so that sampling finds its place without walking the vocabulary.
constexpr std::size_t kBlock = 256;

constexpr float kLowest = -87.0F;
constexpr float kLog2E = 1.44269504088896341F;
constexpr float kLn2High = 0.693359375F;
constexpr float kLn2Low = -2.12194440e-4F;
constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer

// exp for x <= 0 after Cody and Waite: x = n ln 2 + r, exp(r) by a polynomial (Cephes), 2^n through
// the exponent bits. Relative error below 2e-7; 0 below -87 (such a token has a chance of 1e-38).
inline float ExpOfNegative(float x) {
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

double Sum(std::span<const float> values) {
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= values.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(values[i + lane]);
    }
  }
  for (; i < values.size(); ++i) {
    sums[0] += static_cast<double>(values[i]);
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace

double SumOfWeights(std::span<const float> logits, float largest, float scale) {
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

TokenId SampleByWeight(std::span<float> logits, float largest, float scale, double uniform) {
  for (float& value : logits) {
    value = ExpOfNegative((value - largest) * scale);
  }
  std::vector<double> ends;  // running sum after every block
  ends.reserve(logits.size() / kBlock + 1);
  double total = 0.0;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const double sum =
        Sum(std::span<const float>(logits).subspan(begin, std::min(kBlock, logits.size() - begin)));
    total += sum;
    ends.push_back(total);
  }
  // Rounding must not lift the target to the total: the last possible token has that end. So some
  // block ends above the target, and that one has a possible token.
  const double target = std::min(uniform * total, std::nextafter(total, 0.0));
  const auto block =
      static_cast<std::size_t>(std::upper_bound(ends.begin(), ends.end(), target) - ends.begin());
  double running = block == 0 ? 0.0 : ends[block - 1];
  std::size_t chosen = 0;
  for (std::size_t i = block * kBlock; i < std::min(logits.size(), (block + 1) * kBlock); ++i) {
    if (logits[i] > 0.0F) {
      chosen = i;
      running += static_cast<double>(logits[i]);
      if (running > target) {
        break;
      }
    }
  }
  return static_cast<TokenId>(chosen);
}

}  // namespace yangtuo
