#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace yangtuo::kernels {

// Products of rows of int8 activations with packed int8 and int4 weights, as exact sums of
// integers: every instruction set, row count and order of summation gives the same numbers.

// Inputs are counted in groups, outputs in tiles; the last of each is padded with zeros.
constexpr std::int64_t kGroup = 32;
constexpr std::int64_t kTileColumns = 16;
// Rows that a kernel takes at once: their sums of a tile fill the registers of AVX2.
constexpr std::int64_t kMostRows = 4;
// The longest sum of |x| <= 127 times |w| <= 127 that an int32 holds, in whole groups.
constexpr std::int64_t kMostInputs = 2147483647 / (127 * 127) / kGroup * kGroup;

// A tile of packed weights.
//
// int8: per group eight steps of 64 bytes; step s holds inputs 4s .. 4s+3 of column 0, then of
// column 1 ... 15.
//
// int4 codes (q + 8, 0 .. 15): per group 256 bytes, 128 for columns 0 .. 7, then 128 for columns
// 8 .. 15, each four vectors of 32 bytes; a byte of vector v has the code of step v in its low half
// and that of step v + 4 in its high half, bytes in int8's order (four inputs of one column side by
// side). After the codes of all groups, 16 int8 multipliers a group.
constexpr std::int64_t kInt8GroupBytes = kGroup * kTileColumns;
constexpr std::int64_t kInt4GroupBytes = kGroup * kTileColumns / 2;

// Rows of quantized activations.
struct IntegerRows {
  const std::int8_t* x = nullptr;      // [rows, x_stride], -127 .. 127
  const std::int32_t* bias = nullptr;  // [rows, bias_stride]: for int4, see GroupBias
  std::int64_t x_stride = 0;
  std::int64_t bias_stride = 0;
  std::int64_t rows = 0;  // at most kMostRows

  [[nodiscard]] const std::int8_t* Row(std::size_t row) const {
    return x + static_cast<std::int64_t>(row) * x_stride;
  }
  [[nodiscard]] const std::int32_t* BiasOf(std::size_t row) const {
    return bias + static_cast<std::int64_t>(row) * bias_stride;
  }
};

// sums [rows, kTileColumns] += x . weight over `groups` groups; the pointers begin at the first.
struct TileProduct {
  IntegerRows x;
  const std::byte* weight = nullptr;
  const std::int8_t* multipliers = nullptr;  // [groups, kTileColumns], int4 only
  std::int64_t groups = 0;
  std::int32_t* sums = nullptr;
};

// Codes 0 .. 15 stand for q + 8, so a group's product with codes exceeds that with q by 8 times the
// sum of x. Two such corrections, of the inputs 4s, 4s+1 and of 4s+2, 4s+3, are kept as 16-bit
// halves of one number: the kernels start from them.
[[nodiscard]] std::int32_t GroupBias(std::span<const std::int8_t, kGroup> x);

// y = x / scale rounded to nearest even, with scale = max |x| / 127; returns the scale. A row with
// a value that is not a finite number has a scale that is none, so that its products are none.
using QuantizeRowKernel = float (*)(std::span<const float> x, std::span<std::int8_t> y);
using TileKernel = void (*)(const TileProduct&);
// The codes of `groups` groups as one byte each, in int8's layout, for many rows to share.
using ExpandKernel = void (*)(const std::byte* codes, std::int64_t groups, std::byte* expanded);
// y[c] = float(sums[c]) * weight_scale[c] * x_scale, for `columns` columns of a tile.
struct TileResult {
  const std::int32_t* sums = nullptr;
  const float* weight_scales = nullptr;
  float x_scale = 0.0F;
  float* y = nullptr;
  std::int64_t columns = 0;
};
using ScaleKernel = void (*)(const TileResult&);

struct IntegerKernels {
  std::string_view name;
  QuantizeRowKernel quantize_row;
  TileKernel int8;
  TileKernel int4;  // from packed codes: one to four rows read them once
  ExpandKernel expand;
  TileKernel int4_expanded;  // from expanded codes
  ScaleKernel scale;
};

enum class IntegerPath : std::uint8_t { kFastest, kPortable, kAvx2 };

// The kernels of a path; kFastest: the best that this CPU runs. Null where it cannot run `path`.
[[nodiscard]] const IntegerKernels* KernelsOf(IntegerPath path);

// The implementations, one file each.
[[nodiscard]] const IntegerKernels& PortableIntegerKernels();
[[nodiscard]] const IntegerKernels& Avx2IntegerKernels();

}  // namespace yangtuo::kernels
