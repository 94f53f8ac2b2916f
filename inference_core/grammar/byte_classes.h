#pragma once

#include <array>
#include <cstdint>

#include "inference_core/grammar/expression.h"

namespace yangtuo {

// Cuts the 256 bytes into ranges that no expression tells apart, numbered in order: automata are
// built over these instead of bytes.
struct ByteClasses {
  std::array<std::uint8_t, 256> of_byte = {};
  std::int32_t count = 1;
};

[[nodiscard]] ByteClasses FindByteClasses(const Expressions& expressions);

}  // namespace yangtuo
