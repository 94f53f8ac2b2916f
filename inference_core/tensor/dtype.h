#pragma once

#include <cstdint>
#include <string_view>

namespace yangtuo {

// Element types of stored tensors. Values are internal; files have their own names and numbers.
//
// The types after kBF16 keep a row in blocks that share scales. A row stands for itself in all of
// them: RowBytes() bytes hold everything that widening it takes. quant/ has what the bytes mean.
enum class DType : std::uint8_t {
  kF32,
  kF16,
  kBF16,
  // GGUF's blocks, to the letter (32 elements, 256 for the K types).
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  // Ours. kInt8: one int8 an element, then one f32 scale. kInt4: 4-bit codes, two a byte, of the
  // row padded to whole groups of 32; then one int8 multiplier a group; then one f32 scale.
  kInt8,
  kInt4,
};

inline constexpr std::int64_t kInt4Group = 32;

// How a type lays out a row: blocks of `elements` in `bytes`, and `row_bytes` once a row.
struct DTypeLayout {
  std::string_view name;  // as flags and messages spell it
  std::int64_t elements = 1;
  std::int64_t bytes = 0;
  std::int64_t row_bytes = 0;
  bool pads_rows = false;  // whether the last block of a row may be partly empty
};

[[nodiscard]] constexpr DTypeLayout LayoutOf(DType type) {
  switch (type) {
    case DType::kF32:
      return {"f32", 1, 4};
    case DType::kF16:
      return {"f16", 1, 2};
    case DType::kBF16:
      return {"bf16", 1, 2};
    case DType::kQ4_0:
      return {"q4_0", 32, 18};
    case DType::kQ4_1:
      return {"q4_1", 32, 20};
    case DType::kQ5_0:
      return {"q5_0", 32, 22};
    case DType::kQ5_1:
      return {"q5_1", 32, 24};
    case DType::kQ8_0:
      return {"q8_0", 32, 34};
    case DType::kQ2_K:
      return {"q2_k", 256, 84};
    case DType::kQ3_K:
      return {"q3_k", 256, 110};
    case DType::kQ4_K:
      return {"q4_k", 256, 144};
    case DType::kQ5_K:
      return {"q5_k", 256, 176};
    case DType::kQ6_K:
      return {"q6_k", 256, 210};
    case DType::kInt8:
      return {"int8", 1, 1, 4};
    case DType::kInt4:
      return {"int4", kInt4Group, kInt4Group / 2 + 1, 4, true};
  }
  return {"?"};
}

[[nodiscard]] constexpr std::string_view NameOf(DType type) { return LayoutOf(type).name; }

// Whether every element stands alone, at a fixed size.
[[nodiscard]] constexpr bool IsPlain(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

// Bytes of an element of a plain type.
[[nodiscard]] constexpr std::int64_t SizeOf(DType type) { return type == DType::kF32 ? 4 : 2; }

// Whether a row of `cols` elements can be kept in `type`.
[[nodiscard]] constexpr bool RowFits(DType type, std::int64_t cols) {
  const DTypeLayout layout = LayoutOf(type);
  return layout.pads_rows || cols % layout.elements == 0;
}

// Bytes of one row of `cols` elements, which fit.
[[nodiscard]] constexpr std::int64_t RowBytes(DType type, std::int64_t cols) {
  const DTypeLayout layout = LayoutOf(type);
  return (cols + layout.elements - 1) / layout.elements * layout.bytes + layout.row_bytes;
}

}  // namespace yangtuo
