#pragma once

#include <cstddef>
#include <span>

#include "absl/status/status.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// Rows of any type to floats and back, at any alignment. Narrowing to a plain type rounds to
// nearest, ties to even, and carries infinities and NaN along; a finite value that the type cannot
// hold is refused (OUT_OF_RANGE names its column). Into blocks as QuantizeRow() does.
void WidenRow(DType type, std::span<const std::byte> row, std::span<float> values);
absl::Status NarrowRow(DType type, std::span<const float> values, std::span<const float> importance,
                       std::span<std::byte> row);

}  // namespace yangtuo
