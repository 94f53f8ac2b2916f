#include "inference_core/checkpoint/plain_rows.h"

#include <algorithm>
#include <cassert>
#include <cstdint>
#include <cstring>

#include "inference_core/base/float16.h"

namespace yangtuo {
namespace {

constexpr std::size_t kBlock = 512;  // halves that are aligned on the stack at once

}  // namespace

void WidenPlainRow(DType type, std::span<const std::byte> row, std::span<float> values) {
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

void NarrowPlainRow(DType type, std::span<const float> values, std::span<std::byte> row) {
  assert(row.size() == values.size() * static_cast<std::size_t>(SizeOf(type)));
  if (type == DType::kF32) {
    std::memcpy(row.data(), values.data(), row.size());
    return;
  }
  std::uint16_t halves[kBlock];
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t count = std::min(kBlock, values.size() - begin);
    const std::span<std::uint16_t> to(halves, count);
    type == DType::kF16 ? FloatToF16(values.subspan(begin, count), to)
                        : FloatToBf16(values.subspan(begin, count), to);
    std::memcpy(row.data() + begin * sizeof(std::uint16_t), halves, count * sizeof(std::uint16_t));
  }
}

}  // namespace yangtuo
