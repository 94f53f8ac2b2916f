#pragma once

#include <cmath>
#include <cstddef>
#include <span>

#include "inference_core/tensor/dtype.h"

namespace yangtuo::kernels {

// What a weight lost when it was quantized as it was packed: sums over a sample of its rows (the
// first of every sixteen) of the squares of the stored numbers, and of what the packed ones are off
// by. Both are 0 for a weight that was stored in the type that is computed with.
struct PackingLoss {
  double square = 0.0;
  double squared_error = 0.0;

  void Add(const PackingLoss& other) {
    square += other.square;
    squared_error += other.squared_error;
  }
  // Root of the mean squared error over that of the mean square.
  [[nodiscard]] double relative() const {
    return square > 0.0 ? std::sqrt(squared_error / square) : 0.0;
  }
};

// Of one row: `packed` in `type` was made of `values`.
[[nodiscard]] PackingLoss LossOf(DType type, std::span<const float> values,
                                 std::span<const std::byte> packed);

}  // namespace yangtuo::kernels
