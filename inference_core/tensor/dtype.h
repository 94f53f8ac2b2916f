#pragma once

#include <cstdint>
#include <string_view>

namespace yangtuo {

// Element types of stored tensors. Values are internal; files have their own names and numbers.
enum class DType { kF32, kF16, kBF16 };

[[nodiscard]] constexpr std::int64_t SizeOf(DType type) { return type == DType::kF32 ? 4 : 2; }

[[nodiscard]] constexpr std::string_view NameOf(DType type) {
  switch (type) {
    case DType::kF32:
      return "f32";
    case DType::kF16:
      return "f16";
    case DType::kBF16:
      return "bf16";
  }
  return "?";
}

}  // namespace yangtuo
