#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "inference_core/kernels/integer_kernels.h"

namespace yangtuo::kernels {

// Products of rows of int8 activations with weights that have a scale for each group of 32 or 16
// inputs, as GGUF's blocks do. Activations have a scale for each group of 32, too. A group's sum of
// products is an exact integer; groups are added up as floats in ascending order,
//
//   sum = sum + (float(group's sum) * weight scale [+ a second product]) * x scale
//
// with every operation rounded on its own and every column by itself: the result is one function on
// every instruction set and in every company.

// What the second product of a group is.
enum class GroupForm : std::uint8_t {
  kScale,   // none
  kOffset,  // float(sum of x) * the offset that each of the weights has
  kHalves,  // the first product is of inputs 0 .. 15, the second of 16 .. 31 with their own scale
};
constexpr std::size_t kGroupForms = 3;
[[nodiscard]] constexpr std::int64_t FactorsOf(GroupForm form) {
  return form == GroupForm::kScale ? 1 : 2;
}

// sums [rows, kTileColumns] = x . weight for one tile.
struct GroupedProduct {
  std::int64_t rows = 0;
  std::int64_t groups = 0;
  const std::int8_t* x = nullptr;  // [steps, rows, kStep]
  // [groups, 2, rows], of each half of a group; where a group is one, its first half's is for all.
  const std::int32_t* bias = nullptr;
  const float* x_scales = nullptr;   // [groups, rows]
  const float* x_sums = nullptr;     // [groups, rows], kOffset only
  const std::byte* codes = nullptr;  // groups of kInt8GroupBytes or kInt4GroupBytes
  const float* factors = nullptr;    // [groups, FactorsOf(form), kTileColumns]
  float* sums = nullptr;
};
using GroupedKernel = void (*)(const GroupedProduct&);

struct GroupedKernels {
  std::int64_t rows = 1;  // at once
  // What int8 weights are multiplied as: each plus this. 4-bit codes are as they are.
  std::int32_t int8_zero = 0;
  std::array<GroupedKernel, 2> codes;           // kScale, kOffset; two 4-bit codes a byte
  std::array<GroupedKernel, kGroupForms> int8;  // by form
};

// As KernelsOf.
[[nodiscard]] const GroupedKernels* GroupedKernelsOf(IntegerPath path);

// The implementations, one file each.
[[nodiscard]] const GroupedKernels& PortableGroupedKernels();
[[nodiscard]] const GroupedKernels& Avx2GroupedKernels();
[[nodiscard]] const GroupedKernels& AvxVnniGroupedKernels();
[[nodiscard]] const GroupedKernels& Avx512VnniGroupedKernels();

}  // namespace yangtuo::kernels
