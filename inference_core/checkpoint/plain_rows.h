#pragma once

#include <cstddef>
#include <span>

#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// Rows of plain types to floats and back; any alignment. Narrowing rounds to nearest, ties to even.
void WidenPlainRow(DType type, std::span<const std::byte> row, std::span<float> values);
void NarrowPlainRow(DType type, std::span<const float> values, std::span<std::byte> row);

}  // namespace yangtuo
