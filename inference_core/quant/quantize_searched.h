#pragma once

#include <cstddef>
#include <span>

#include "inference_core/quant/blocks.h"

namespace yangtuo {

// The types whose scales are searched for the least sum of importance * squared error (quant.h has
// the types, and what x and importance may be). Each writes all of `x`.
void SearchQ4_0(std::span<const float> x, std::span<const float> importance,
                std::span<BlockQ4_0> blocks);
void SearchQ4_K(std::span<const float> x, std::span<const float> importance,
                std::span<BlockQ4_K> blocks);
void SearchQ6_K(std::span<const float> x, std::span<const float> importance,
                std::span<BlockQ6_K> blocks);
void SearchInt4(std::span<const float> x, std::span<const float> importance,
                std::span<std::byte> row);

}  // namespace yangtuo
