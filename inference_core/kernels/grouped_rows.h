#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "inference_core/kernels/grouped_kernels.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo::kernels {

// How weights of one of GGUF's types are computed with.
struct GroupedFormat {
  bool codes = false;  // 4-bit codes, else int8
  GroupForm form = GroupForm::kScale;
  std::int32_t zero = 0;      // what 4-bit codes have too much
  std::int64_t per_base = 1;  // groups that share a base: 1, or 8 in blocks of 256
};

// Whether rows of `type` are computed with as they are: GGUF's types, Q2_K aside.
[[nodiscard]] bool IsGrouped(DType type);
// Of a type that is.
[[nodiscard]] GroupedFormat FormatOf(DType type);

// One group of 32. A factor is base * step, rounded: a scale, or with kOffset a second one that is
// an offset.
struct WeightGroup {
  std::int8_t codes[kGroup];  // 4-bit ones as 0 .. 15
  float bases[2];
  std::int8_t steps[2];  // 1 where the groups' base is their own
};

// The groups of a row, in order: block by block as quant/blocks.h says, no number changed.
void SplitRow(DType type, std::span<const std::byte> row, std::span<WeightGroup> groups);

}  // namespace yangtuo::kernels
