#include "inference_core/kernels/grouped_rows.h"

#include <cstring>

#include "inference_core/quant/unpack.h"

namespace yangtuo::kernels {
namespace {

// Blocks of 32: the scale is one number.
template <typename Block, typename Unpacked>
void SplitBlocks(std::span<const std::byte> row, std::span<WeightGroup> groups) {
  for (std::size_t b = 0; b < groups.size(); ++b) {
    Block block;
    std::memcpy(&block, row.data() + b * sizeof(Block), sizeof(Block));
    Unpacked unpacked;
    Unpack(block, unpacked);
    WeightGroup& group = groups[b];
    std::memcpy(group.codes, unpacked.codes, sizeof(group.codes));
    group.bases[0] = unpacked.scales[0];
    group.bases[1] = 0.0F;
    if constexpr (Unpacked::kHasOffsets) {
      group.bases[1] = unpacked.offsets[0];
    }
    group.steps[0] = group.steps[1] = 1;
  }
}

// A group's two steps, and what they are multiples of.
void SetFactors(const BlockQ4_K& block, std::size_t group, WeightGroup& to) {
  const ScaleAndMin both = PackedScaleAndMin(block.scales, group);
  to.bases[0] = block.d.value();
  to.bases[1] = -block.dmin.value();
  to.steps[0] = static_cast<std::int8_t>(both.scale);
  to.steps[1] = static_cast<std::int8_t>(both.min);
}
void SetFactors(const BlockQ5_K& block, std::size_t group, WeightGroup& to) {
  const ScaleAndMin both = PackedScaleAndMin(block.scales, group);
  to.bases[0] = block.d.value();
  to.bases[1] = -block.dmin.value();
  to.steps[0] = static_cast<std::int8_t>(both.scale);
  to.steps[1] = static_cast<std::int8_t>(both.min);
}
void SetFactors(const BlockQ6_K& block, std::size_t group, WeightGroup& to) {
  to.bases[0] = to.bases[1] = block.d.value();
  to.steps[0] = block.scales[2 * group];
  to.steps[1] = block.scales[2 * group + 1];
}
void SetFactors(const BlockQ3_K& block, std::size_t group, WeightGroup& to) {
  to.bases[0] = to.bases[1] = block.d.value();
  for (std::size_t half = 0; half < 2; ++half) {
    const std::size_t j = 2 * group + half;
    const int low = (block.scales[j % 8] >> (j < 8 ? 0 : 4)) & 15;
    const int high = (block.scales[8 + j % 4] >> (2 * (j / 4))) & 3;
    to.steps[half] = static_cast<std::int8_t>((low | (high << 4)) - 32);
  }
}

// Blocks of 256: eight groups share bases.
template <typename Block, typename Unpacked>
void SplitSuperBlocks(std::span<const std::byte> row, std::span<WeightGroup> groups) {
  for (std::size_t b = 0; b < groups.size() / 8; ++b) {
    Block block;
    std::memcpy(&block, row.data() + b * sizeof(Block), sizeof(Block));
    Unpacked unpacked;
    Unpack(block, unpacked);
    for (std::size_t group = 0; group < 8; ++group) {
      WeightGroup& to = groups[8 * b + group];
      std::memcpy(to.codes, unpacked.codes + group * sizeof(to.codes), sizeof(to.codes));
      SetFactors(block, group, to);
    }
  }
}

// Codes less `zero` as codes.
void AddZero(std::int8_t zero, std::span<WeightGroup> groups) {
  for (WeightGroup& group : groups) {
    for (std::int8_t& code : group.codes) {
      code = static_cast<std::int8_t>(code + zero);
    }
  }
}

}  // namespace

bool IsGrouped(DType type) {
  switch (type) {
    case DType::kQ4_0:
    case DType::kQ4_1:
    case DType::kQ5_0:
    case DType::kQ5_1:
    case DType::kQ8_0:
    case DType::kQ3_K:
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
      return true;
    default:
      return false;
  }
}

GroupedFormat FormatOf(DType type) {
  switch (type) {
    case DType::kQ4_0:
      return {.codes = true, .form = GroupForm::kScale, .zero = 8, .per_base = 1};
    case DType::kQ4_1:
      return {.codes = true, .form = GroupForm::kOffset, .zero = 0, .per_base = 1};
    case DType::kQ5_1:
      return {.codes = false, .form = GroupForm::kOffset, .zero = 0, .per_base = 1};
    case DType::kQ4_K:
      return {.codes = true, .form = GroupForm::kOffset, .zero = 0, .per_base = 8};
    case DType::kQ5_K:
      return {.codes = false, .form = GroupForm::kOffset, .zero = 0, .per_base = 8};
    case DType::kQ3_K:
    case DType::kQ6_K:
      return {.codes = false, .form = GroupForm::kHalves, .zero = 0, .per_base = 8};
    default:  // Q5_0, Q8_0
      return {.codes = false, .form = GroupForm::kScale, .zero = 0, .per_base = 1};
  }
}

void SplitRow(DType type, std::span<const std::byte> row, std::span<WeightGroup> groups) {
  switch (type) {
    case DType::kQ4_0:
      SplitBlocks<BlockQ4_0, UnpackedScaled32>(row, groups);
      return AddZero(8, groups);
    case DType::kQ4_1:
      return SplitBlocks<BlockQ4_1, UnpackedOffset32>(row, groups);
    case DType::kQ5_0:
      return SplitBlocks<BlockQ5_0, UnpackedScaled32>(row, groups);
    case DType::kQ5_1:
      return SplitBlocks<BlockQ5_1, UnpackedOffset32>(row, groups);
    case DType::kQ3_K:
      return SplitSuperBlocks<BlockQ3_K, UnpackedScaled256>(row, groups);
    case DType::kQ4_K:
      return SplitSuperBlocks<BlockQ4_K, UnpackedBlock<256, 32, true>>(row, groups);
    case DType::kQ5_K:
      return SplitSuperBlocks<BlockQ5_K, UnpackedBlock<256, 32, true>>(row, groups);
    case DType::kQ6_K:
      return SplitSuperBlocks<BlockQ6_K, UnpackedScaled256>(row, groups);
    default:
      return SplitBlocks<BlockQ8_0, UnpackedScaled32>(row, groups);
  }
}

}  // namespace yangtuo::kernels
