#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace yangtuo::kernels {

// Rows of DType::kInt8 and DType::kInt4, taken apart and made. What the engine computes with is in
// these numbers alone, so kernels pack them as they are.

// int8: w = scale * q with q in -127 .. 127; bytes: the q of all columns, then the scale.
struct Int8Row {
  std::span<const std::byte> q;  // [cols]
  float scale = 0.0F;
};
[[nodiscard]] Int8Row SplitInt8Row(std::span<const std::byte> row);

// int4: w = scale * r * q with q in -8 .. 7 and, once a group of 32 columns, r in -15 .. 15. Bytes:
// for each group (the last one padded with zeros) 16, of which byte i has the code q + 8 of column
// i in its low half and that of column 16 + i in its high half; then the r of all groups; then the
// scale.
struct Int4Row {
  std::span<const std::byte> codes;  // [groups * 16]
  std::span<const std::byte> r;      // [groups]
  float scale = 0.0F;
};
[[nodiscard]] Int4Row SplitInt4Row(std::span<const std::byte> row, std::int64_t cols);

void DequantizeInt8Row(std::span<const std::byte> row, std::span<float> y);
void DequantizeInt4Row(std::span<const std::byte> row, std::span<float> y);

// `x` and `importance` (empty, or a weight for each column) hold finite numbers only; `row` is
// RowBytes() long. Rounds to the nearest multiple of max |x| / 127.
void QuantizeInt8Row(std::span<const float> x, std::span<std::byte> row);

// Searches scale and multipliers for the least (weighted) squared error: for several scales the
// best multiplier of every group, then the scale that is best for the multiples found. 0.02 us a
// column.
void QuantizeInt4Row(std::span<const float> x, std::span<const float> importance,
                     std::span<std::byte> row);

}  // namespace yangtuo::kernels
