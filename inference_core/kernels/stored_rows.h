#pragma once

#include <cstdint>
#include <span>

#include "inference_core/tensor/dtype.h"

namespace yangtuo::kernels {

// Row `row` of a row-major matrix of y.size() columns, widened to f32. `data` may be at any
// alignment, as tensors in files are.
void WidenRow(const std::byte* data, DType dtype, std::int64_t row, std::span<float> y);

}  // namespace yangtuo::kernels
