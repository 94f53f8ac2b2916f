#include <cassert>
#include <cstring>

#include "inference_core/base/cpu.h"
#include "inference_core/quant/quant.h"
#include "inference_core/quant/unpack.h"
#include "inference_core/quant/vector_build.h"

namespace yangtuo {
namespace {

template <typename Unpacked>
void WriteValues(const Unpacked& block, float* y) {
  for (std::size_t group = 0; group < Unpacked::kSize / Unpacked::kGroupSize; ++group) {
    const std::int8_t* codes = block.codes + group * Unpacked::kGroupSize;
    float* values = y + group * Unpacked::kGroupSize;
    const float scale = block.scales[group];
    if constexpr (Unpacked::kHasOffsets) {
      const float offset = block.offsets[group];
      for (std::size_t i = 0; i < Unpacked::kGroupSize; ++i) {
        values[i] = scale * static_cast<float>(codes[i]) + offset;
      }
    } else {  // no "+ 0": it would take the sign off a zero
      for (std::size_t i = 0; i < Unpacked::kGroupSize; ++i) {
        values[i] = scale * static_cast<float>(codes[i]);
      }
    }
  }
}

template <typename Block, typename Unpacked>
void WidenBlocks(std::span<const std::byte> row, std::span<float> y) {
  const auto* blocks = reinterpret_cast<const Block*>(row.data());  // bytes only, no alignment
  for (std::size_t i = 0; i < y.size() / Unpacked::kSize; ++i) {
    Unpacked unpacked;
    Unpack(blocks[i], unpacked);
    WriteValues(unpacked, y.data() + i * Unpacked::kSize);
  }
}

float LoadFloat(const std::byte* from) {
  float value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

void WidenInt8(std::span<const std::byte> row, std::span<float> y) {
  const float scale = LoadFloat(row.data() + y.size());
  const auto* codes = reinterpret_cast<const std::int8_t*>(row.data());
  for (std::size_t i = 0; i < y.size(); ++i) {
    y[i] = scale * static_cast<float>(codes[i]);
  }
}

void WidenInt4(std::span<const std::byte> row, std::span<float> y) {
  constexpr auto kGroup = static_cast<std::size_t>(kInt4Group);
  const std::size_t groups = (y.size() + kGroup - 1) / kGroup;
  const auto* codes = reinterpret_cast<const std::uint8_t(*)[kGroup / 2]>(row.data());
  const auto* multipliers =
      reinterpret_cast<const std::int8_t*>(row.data()) + groups * (kGroup / 2);
  const float scale = LoadFloat(row.data() + groups * (kGroup / 2 + 1));
  for (std::size_t group = 0; group < groups; ++group) {
    std::int8_t unpacked[kGroup];
    UnpackNibbles(codes[group], 8, unpacked);
    float values[kGroup];
    for (std::size_t i = 0; i < kGroup; ++i) {
      values[i] = scale * static_cast<float>(unpacked[i] * multipliers[group]);
    }
    const std::size_t count = std::min(kGroup, y.size() - group * kGroup);
    std::memcpy(y.data() + group * kGroup, values, count * sizeof(float));
  }
}

void WidenHalves(DType type, std::span<const std::byte> row, std::span<float> y) {
  std::uint16_t halves[512];  // aligned, whatever the row is
  for (std::size_t begin = 0; begin < y.size(); begin += std::size(halves)) {
    const std::size_t count = std::min(std::size(halves), y.size() - begin);
    std::memcpy(halves, row.data() + 2 * begin, 2 * count);
    const std::span<const std::uint16_t> from(halves, count);
    type == DType::kF16 ? F16ToFloat(from, y.subspan(begin, count))
                        : Bf16ToFloat(from, y.subspan(begin, count));
  }
}

void Widen(DType type, std::span<const std::byte> row, std::span<float> y) {
  switch (type) {
    case DType::kF32:
      std::memcpy(y.data(), row.data(), row.size());
      return;
    case DType::kF16:
    case DType::kBF16:
      return WidenHalves(type, row, y);
    case DType::kQ4_0:
      return WidenBlocks<BlockQ4_0, UnpackedScaled32>(row, y);
    case DType::kQ4_1:
      return WidenBlocks<BlockQ4_1, UnpackedOffset32>(row, y);
    case DType::kQ5_0:
      return WidenBlocks<BlockQ5_0, UnpackedScaled32>(row, y);
    case DType::kQ5_1:
      return WidenBlocks<BlockQ5_1, UnpackedOffset32>(row, y);
    case DType::kQ8_0:
      return WidenBlocks<BlockQ8_0, UnpackedScaled32>(row, y);
    case DType::kQ2_K:
      return WidenBlocks<BlockQ2_K, UnpackedBlock<256, 16, true>>(row, y);
    case DType::kQ3_K:
      return WidenBlocks<BlockQ3_K, UnpackedScaled256>(row, y);
    case DType::kQ4_K:
      return WidenBlocks<BlockQ4_K, UnpackedBlock<256, 32, true>>(row, y);
    case DType::kQ5_K:
      return WidenBlocks<BlockQ5_K, UnpackedBlock<256, 32, true>>(row, y);
    case DType::kQ6_K:
      return WidenBlocks<BlockQ6_K, UnpackedScaled256>(row, y);
    case DType::kInt8:
      return WidenInt8(row, y);
    case DType::kInt4:
      return WidenInt4(row, y);
  }
}

YANGTUO_BUILD_FOR_AVX2 void WidenAvx2(DType type, std::span<const std::byte> row,
                                      std::span<float> y) {
  Widen(type, row, y);
}

}  // namespace

void DequantizeRow(DType type, std::span<const std::byte> row, std::span<float> y) {
  assert(RowFits(type, static_cast<std::int64_t>(y.size())));
  assert(static_cast<std::int64_t>(row.size()) ==
         RowBytes(type, static_cast<std::int64_t>(y.size())));
  GetCpuFeatures().avx2 ? WidenAvx2(type, row, y) : Widen(type, row, y);
}

}  // namespace yangtuo
