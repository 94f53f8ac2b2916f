#include "inference_core/sampling/softmax.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "inference_core/sampling/vocabulary_loops.h"

namespace yangtuo {
namespace {

// Independent partial results: floating-point reductions are vectorized only when written so.
constexpr std::size_t kLanes = 16;
// Weights summed as one number, so that sampling finds its place without walking the vocabulary.
constexpr std::size_t kBlock = 256;

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
  return FastestLoops().sum_of_weights(logits, largest, scale);
}

TokenId SampleByWeight(std::span<float> logits, float largest, float scale, double uniform) {
  FastestLoops().to_weights(logits, largest, scale);
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
