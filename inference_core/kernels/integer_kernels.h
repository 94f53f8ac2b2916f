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
// Four inputs of a group, multiplied at once: eight steps a group.
constexpr std::int64_t kStep = 4;
// The longest sum of |x| <= 127 times |w| <= 127 that an int32 holds, in whole groups.
constexpr std::int64_t kMostInputs = 2147483647 / (127 * 127) / kGroup * kGroup;

// A tile of packed weights.
//
// int8: per group eight steps of 64 bytes; step s holds inputs 4s .. 4s+3 of column 0, then of
// column 1 ... 15.
//
// int4 codes (q + 8, 0 .. 15): per group four vectors of 64 bytes; a byte of vector v has the code
// of step v in its low half and that of step v + 4 in its high half, bytes in int8's order. After
// the codes of all groups, 16 int8 multipliers a group.
constexpr std::int64_t kInt8GroupBytes = kGroup * kTileColumns;
constexpr std::int64_t kInt4GroupBytes = kGroup * kTileColumns / 2;

// sums [rows, tiles * kTileColumns] += x . weight over `groups` groups; all pointers begin at the
// first of them.
struct TileProduct {
  std::int64_t rows = 0;
  std::int64_t groups = 0;
  // [steps, rows, kStep], -127 .. 127: what the rows have of a step lies side by side.
  const std::int8_t* x = nullptr;
  const std::int32_t* bias = nullptr;  // [groups, rows], int4 only: what RowStart gave
  const std::byte* weight = nullptr;
  const std::int8_t* multipliers = nullptr;  // [groups, kTileColumns], int4 only
  std::int64_t tiles = 1;
  std::int64_t tile_stride = 0;  // bytes from a tile's weights to those of the next
  // What is asked for meanwhile, to be there when it is needed: of every tile, `ahead_step` bytes
  // on with each step. Null: nothing.
  const std::byte* ahead = nullptr;
  std::int64_t ahead_tile_stride = 0;
  std::int64_t ahead_step = 0;
  std::int32_t* sums = nullptr;
  std::int64_t sums_stride = 0;
};

// y = x / scale rounded to nearest even, with scale = max |x| / 127; returns the scale. A row with
// a value that is not a finite number has a scale that is none, so that its products are none.
using QuantizeRowKernel = float (*)(std::span<const float> x, std::span<std::int8_t> y);
// Returns what the sums of a row of whole groups begin with, and writes what its int4 kernels begin
// each group with, `bias_stride` apart, unless `bias` is null. Kernels that see weights with an
// offset, as codes 0 .. 15 or as unsigned bytes, thus take it away again.
using RowStartKernel = std::int32_t (*)(std::span<const std::int8_t> x, std::int32_t* bias,
                                        std::int64_t bias_stride);
using TileKernel = void (*)(const TileProduct&);
// One byte a code or a multiple, in int8's layout, for many rows to share.
struct Expansion {
  const std::byte* codes = nullptr;
  const std::int8_t* multipliers = nullptr;
  std::int64_t groups = 0;
  std::byte* expanded = nullptr;
};
using ExpandKernel = void (*)(const Expansion&);
// y[c] = float(sums[c]) * weight_scale[c] * x_scale, for `columns` columns.
struct TileResult {
  const std::int32_t* sums = nullptr;
  const float* weight_scales = nullptr;
  float x_scale = 0.0F;
  float* y = nullptr;
  std::int64_t columns = 0;
};
using ScaleKernel = void (*)(const TileResult&);

// How much a kernel takes at once: sums of so many rows and tiles fill the registers.
struct KernelBlock {
  std::int64_t rows = 1;
  std::int64_t tiles = 1;
};

struct IntegerKernels {
  std::string_view name;
  QuantizeRowKernel quantize_row;
  RowStartKernel row_start;
  TileKernel int8;
  KernelBlock int8_block;
  // From packed codes, while that is faster than expanding them: up to int4_rows rows.
  TileKernel int4;
  KernelBlock int4_block;
  std::int64_t int4_rows = 0;
  // For more rows, from what `expand` makes of the codes.
  ExpandKernel expand;
  TileKernel int4_expanded;  // in blocks as int8
  bool expanded_has_bias = true;
  ScaleKernel scale;
};

enum class IntegerPath : std::uint8_t { kFastest, kPortable, kAvx2, kAvxVnni, kAvx512Vnni };

// The kernels of a path; kFastest: the best that this CPU runs. Null where it cannot run `path`.
[[nodiscard]] const IntegerKernels* KernelsOf(IntegerPath path);

// The implementations, one file each.
[[nodiscard]] const IntegerKernels& PortableIntegerKernels();
[[nodiscard]] const IntegerKernels& Avx2IntegerKernels();
[[nodiscard]] const IntegerKernels& AvxVnniIntegerKernels();
[[nodiscard]] const IntegerKernels& Avx512VnniIntegerKernels();

}  // namespace yangtuo::kernels
