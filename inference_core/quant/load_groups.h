#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "inference_core/quant/lanes.h"

namespace yangtuo {

// 2^-e for values whose largest magnitude is in [2^(e-1), 2^e): products with it are exact, and
// squares neither overflow nor vanish.
inline float NormalizingFactor(std::span<const float> x) {
  float largest = 0.0F;
  for (const float value : x) {
    largest = std::fabs(value) > largest ? std::fabs(value) : largest;
  }
  int exponent = 0;
  std::frexp(largest, &exponent);
  // 2^126 is the largest power of two whose inverse is a normal number.
  return std::ldexp(1.0F, -std::max(exponent, -126));
}

// How much each column of a row counts: its importance, brought to at most 1, and at least a
// millionth, so that a column that was never seen is kept nevertheless; 1 for all without any.
class ColumnWeights {
 public:
  explicit ColumnWeights(std::span<const float> importance)
      : importance_(importance), factor_(NormalizingFactor(importance)) {}

  [[nodiscard]] float operator[](std::size_t column) const {
    return importance_.empty() ? 1.0F : std::max(importance_[column] * factor_, 1e-6F);
  }

 private:
  std::span<const float> importance_;
  float factor_;
};

// Up to kLanes * kSize values, times `factor`, with the weights of the columns from `first` on;
// what is missing has value and weight 0.
template <std::size_t kSize>
void LoadGroups(std::span<const float> x, float factor, const ColumnWeights& weights,
                std::size_t first, GroupLanes<kSize>& to) {
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    for (std::size_t i = 0; i < kSize; ++i) {
      const std::size_t from = lane * kSize + i;
      const bool present = from < x.size();
      to.x[i][lane] = present ? x[from] * factor : 0.0F;
      to.weights[i][lane] = present ? weights[first + from] : 0.0F;
    }
  }
}

}  // namespace yangtuo
