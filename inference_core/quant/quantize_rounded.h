#pragma once

#include <cstddef>
#include <span>

#include "inference_core/quant/blocks.h"

namespace yangtuo {

// The types whose codes follow from the largest magnitude (quant.h has the rules). Finite `x`.
void QuantizeQ4_0(std::span<const float> x, std::span<BlockQ4_0> blocks);
void QuantizeQ8_0(std::span<const float> x, std::span<BlockQ8_0> blocks);
void QuantizeInt8(std::span<const float> x, std::span<std::byte> row);

}  // namespace yangtuo
