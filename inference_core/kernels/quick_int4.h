#pragma once

#include <cstddef>
#include <span>

namespace yangtuo::kernels {

// `x`, finite numbers, as a row of DType::kInt4 (quant/quant.h has the bytes): for some scales the
// best multiplier of every group, then the scale that fits what was found. A shorter search than
// QuantizeRow's, with up to 10 % more squared error: for models that are quantized whenever they
// are loaded. The result depends on the arguments alone, not on the instruction set.
void QuickInt4Row(std::span<const float> x, std::span<std::byte> row);

}  // namespace yangtuo::kernels
