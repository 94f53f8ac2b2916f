#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include "inference_core/sampling/softmax.h"

namespace yangtuo {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Independent partial results: floating-point reductions are vectorized only when written so.
constexpr std::size_t kLanes = 16;

}  // namespace

float LargestLogit(std::span<const float> logits) {
  std::array<float, kLanes> best;
  best.fill(-kInfinity);
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float value = logits[i + lane];
      best[lane] = value > best[lane] ? value : best[lane];
    }
  }
  for (; i < logits.size(); ++i) {
    best[0] = logits[i] > best[0] ? logits[i] : best[0];
  }
  return *std::max_element(best.begin(), best.end());
}

TokenId ArgMax(std::span<const float> logits) {
  const auto found = std::find(logits.begin(), logits.end(), LargestLogit(logits));
  return found == logits.end() ? 0 : static_cast<TokenId>(found - logits.begin());
}

}  // namespace yangtuo
