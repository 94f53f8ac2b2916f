#include "inference_core/checkpoint/row_values.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_format.h"
#include "inference_core/base/float16.h"
#include "inference_core/quant/quant.h"

namespace yangtuo {
namespace {

constexpr std::size_t kBlock = 512;  // halves that are aligned on the stack at once

bool IsInfinite(DType type, std::uint16_t half) {
  return (half & 0x7FFFU) == (type == DType::kF16 ? 0x7C00U : 0x7F80U);
}

}  // namespace

void WidenRow(DType type, std::span<const std::byte> row, std::span<float> values) {
  if (!IsPlain(type)) {
    DequantizeRow(type, row, values);
    return;
  }
  assert(row.size() == values.size() * static_cast<std::size_t>(SizeOf(type)));
  if (type == DType::kF32) {
    std::memcpy(values.data(), row.data(), row.size());
    return;
  }
  std::uint16_t halves[kBlock];
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    std::memcpy(halves, row.data() + begin * sizeof(std::uint16_t), count * sizeof(std::uint16_t));
    const std::span<const std::uint16_t> from(halves, count);
    type == DType::kF16 ? F16ToFloat(from, values.subspan(begin, count))
                        : Bf16ToFloat(from, values.subspan(begin, count));
  }
}

absl::Status NarrowRow(DType type, std::span<const float> values, std::span<const float> importance,
                       std::span<std::byte> row) {
  if (!IsPlain(type)) {
    return QuantizeRow(type, values, importance, row);
  }
  assert(row.size() == values.size() * static_cast<std::size_t>(SizeOf(type)));
  if (type == DType::kF32) {
    std::memcpy(row.data(), values.data(), row.size());
    return absl::OkStatus();
  }
  std::uint16_t halves[kBlock];
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    const std::span<std::uint16_t> to(halves, count);
    const std::span<const float> from = values.subspan(begin, count);
    type == DType::kF16 ? FloatToF16(from, to) : FloatToBf16(from, to);
    for (std::size_t i = 0; i < count; ++i) {
      if (IsInfinite(type, halves[i]) && std::isfinite(from[i])) {
        return absl::OutOfRangeError(
            absl::StrFormat("column %d: %g is too large for %s", begin + i, from[i], NameOf(type)));
      }
    }
    std::memcpy(row.data() + begin * sizeof(std::uint16_t), halves, count * sizeof(std::uint16_t));
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
