#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// Rows of numbers in every type that models are stored in. GGUF's blocks are described in blocks.h;
// of our own types the bytes are
//
//   int8   a code an element, int8 in -127..127; then the row's scale, f32.
//          value = scale * code
//   int4   for each group of 32 elements, the last one padded with zeros, 16 bytes: byte i has
//          the code of element i in its low half and that of element 16 + i in its high half, each
//          plus 8 (0..15 for -8..7); then a multiplier for each group, int8 in -15..15; then the
//          row's scale, f32. value = scale * (multiplier * code); the product is exact and at most
//          120 in magnitude, so that it is an int8.
//
// All numbers are little-endian.

// The type that `name` names, as NameOf() spells it; nullopt for none.
[[nodiscard]] std::optional<DType> DTypeNamed(std::string_view name);

// Row `row` of RowBytes(type, y.size()) bytes, at any alignment, as floats. Every type.
void DequantizeRow(DType type, std::span<const std::byte> row, std::span<float> y);

// Whether QuantizeRow writes `type`: the plain types, Q4_0, Q8_0, Q4_K, Q6_K, int8 and int4.
[[nodiscard]] bool CanQuantizeTo(DType type);

// `x` in `type`, into RowBytes(type, x.size()) bytes at any alignment. `importance` is empty or has
// a finite weight >= 0 for each column: how much its squared error counts. The result depends on
// the arguments alone, not on the instruction set. INVALID_ARGUMENT: a type that cannot be written,
// a row that does not fit it, or a value that is not a finite number or beyond the type's range
// (names its column).
//
//   f16, bf16  to nearest, ties to even
//   int8       scale = largest magnitude / 127; code = x / scale, to nearest, ties to even
//   Q8_0       d = largest magnitude / 127; code = x * (1 / d), to nearest, halves away from zero;
//              d itself is then rounded to f16. As the format's reference does; some SIMD versions
//              of it round ties to even.
//   Q4_0       d = m / -8, m the value of largest magnitude (the first of several);
//              code = x * (1 / d) + 8.5, cut to an integer and at most 15; d is then rounded to
//              f16. With importance, d and codes are searched instead.
//   Q4_K, Q6_K, int4
//              scales and codes are searched for the least sum of importance * squared error.
//
// These sums and products are floats. Where a scale is so small that 1 / d is not finite, the codes
// are those of zero. Importance changes nothing for plain types, int8 and Q8_0.
absl::Status QuantizeRow(DType type, std::span<const float> x, std::span<const float> importance,
                         std::span<std::byte> row);

}  // namespace yangtuo
