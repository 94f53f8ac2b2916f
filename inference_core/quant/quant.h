#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// The type that `name` names, as NameOf() spells it; nullopt for none.
[[nodiscard]] std::optional<DType> DTypeNamed(std::string_view name);

// Row `row` of RowBytes(type, y.size()) bytes, at any alignment, as floats. Every type.
void DequantizeRow(DType type, std::span<const std::byte> row, std::span<float> y);

// Whether QuantizeRow writes `type`: the plain types, Q4_0, Q8_0, Q4_K, Q6_K, int8 and int4.
[[nodiscard]] bool CanQuantizeTo(DType type);

// `x` in `type`, into RowBytes(type, x.size()) bytes at any alignment. `importance` is empty or has
// a weight >= 0 for each column: how much its squared error counts. The result depends on the
// arguments alone, not on the instruction set. INVALID_ARGUMENT: a type that cannot be written, a
// row that does not fit it, or a value that is not a finite number (names its column).
absl::Status QuantizeRow(DType type, std::span<const float> x, std::span<const float> importance,
                         std::span<std::byte> row);

}  // namespace yangtuo
