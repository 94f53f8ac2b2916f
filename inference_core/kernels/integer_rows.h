#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace yangtuo::kernels {

// Rows of DType::kInt8 and kInt4 taken apart (quant/quant.h has the bytes): what the engine
// computes with is in these numbers alone, so they are packed as they are.

struct Int8Row {
  std::span<const std::byte> q;  // [cols]
  float scale = 0.0F;
};
[[nodiscard]] Int8Row SplitInt8Row(std::span<const std::byte> row);

struct Int4Row {
  std::span<const std::byte> codes;  // [groups * 16]
  std::span<const std::byte> r;      // [groups]
  float scale = 0.0F;
};
[[nodiscard]] Int4Row SplitInt4Row(std::span<const std::byte> row, std::int64_t cols);

}  // namespace yangtuo::kernels
