#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// What one tensor of a file or a model is, without its values.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  // outermost first: [out, in], or [n] for a norm

  // A row is what the last axis spans: a vector is one row.
  [[nodiscard]] std::int64_t rows() const {
    std::int64_t count = 1;
    for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) {
      count *= shape[axis];
    }
    return count;
  }
  [[nodiscard]] std::int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  [[nodiscard]] std::int64_t row_bytes() const { return RowBytes(dtype, cols()); }
  [[nodiscard]] std::int64_t bytes() const { return rows() * row_bytes(); }
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

}  // namespace yangtuo
