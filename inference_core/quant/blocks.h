#pragma once

#include <cstdint>
#include <cstring>

#include "inference_core/base/float16.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// GGUF's blocks, byte by byte (little-endian, at any alignment). A value is scale * code + offset,
// each operation rounded to a float, where the scale and the offset of its 16 or 32 elements are
// themselves products of a number that the whole block has and a small integer.
// Source: the format's description in ggml (ggml-common.h), sizes in tensor/dtype.h.

// An f16 number as a file has it.
struct StoredHalf {
  std::uint8_t bytes[2];

  [[nodiscard]] float value() const {
    std::uint16_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return F16ToFloat(bits);
  }
  void Set(std::uint16_t bits) { std::memcpy(bytes, &bits, sizeof bits); }
};

// --- 32 elements. Byte i of `codes` has element i in its low half and element 16 + i in its high.

struct BlockQ4_0 {  // d * (code - 8)
  static constexpr DType kType = DType::kQ4_0;
  StoredHalf d;
  std::uint8_t codes[16];
};

struct BlockQ4_1 {  // d * code + m
  static constexpr DType kType = DType::kQ4_1;
  StoredHalf d;
  StoredHalf m;
  std::uint8_t codes[16];
};

struct BlockQ5_0 {  // d * (code - 16); bit i of `fifth` is the fifth of element i
  static constexpr DType kType = DType::kQ5_0;
  StoredHalf d;
  std::uint8_t fifth[4];
  std::uint8_t codes[16];
};

struct BlockQ5_1 {  // d * code + m
  static constexpr DType kType = DType::kQ5_1;
  StoredHalf d;
  StoredHalf m;
  std::uint8_t fifth[4];
  std::uint8_t codes[16];
};

struct BlockQ8_0 {  // d * code
  static constexpr DType kType = DType::kQ8_0;
  StoredHalf d;
  std::int8_t codes[32];
};

// --- 256 elements. Where codes of 2 bits share a byte, it has those of elements i, i + 32, i + 64
// and i + 96, lowest first, of one half of the block.

struct BlockQ2_K {  // 16 groups of 16: (d * low half) * code - dmin * high half
  static constexpr DType kType = DType::kQ2_K;
  std::uint8_t scales[16];
  std::uint8_t codes[64];
  StoredHalf d;
  StoredHalf dmin;
};

// 16 groups of 16: (d * (scale - 32)) * (code - 4). The code's third bit of element i is bit i / 32
// of third[i % 32]. Scale j: four bits in scales[j % 8], low halves first; two in scales[8 + j %
// 4].
struct BlockQ3_K {
  static constexpr DType kType = DType::kQ3_K;
  std::uint8_t third[32];
  std::uint8_t codes[64];
  std::uint8_t scales[12];
  StoredHalf d;
};

// 8 groups of 32: (d * scale) * code - dmin * min, scale and min of 6 bits (PackedScales). Byte i
// of each 32 has element i of a group in its low half and element i of the next in its high.
struct BlockQ4_K {
  static constexpr DType kType = DType::kQ4_K;
  StoredHalf d;
  StoredHalf dmin;
  std::uint8_t scales[12];
  std::uint8_t codes[128];
};

// The same; the code's fifth bit of element i of group j is bit j of fifth[i].
struct BlockQ5_K {
  static constexpr DType kType = DType::kQ5_K;
  StoredHalf d;
  StoredHalf dmin;
  std::uint8_t scales[12];
  std::uint8_t fifth[32];
  std::uint8_t codes[128];
};

// 16 groups of 16: (d * scale) * (code - 32). In each half of the block byte i of 64 has the low
// four bits of elements i and i + 64, byte i of 32 the upper two of i, i + 32, i + 64 and i + 96.
struct BlockQ6_K {
  static constexpr DType kType = DType::kQ6_K;
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  StoredHalf d;
};

template <typename Block>
inline constexpr bool kHasItsLayout = sizeof(Block) == LayoutOf(Block::kType).bytes &&
                                      alignof(Block) == 1;
static_assert(kHasItsLayout<BlockQ4_0> && kHasItsLayout<BlockQ4_1> && kHasItsLayout<BlockQ5_0> &&
              kHasItsLayout<BlockQ5_1> && kHasItsLayout<BlockQ8_0> && kHasItsLayout<BlockQ2_K> &&
              kHasItsLayout<BlockQ3_K> && kHasItsLayout<BlockQ4_K> && kHasItsLayout<BlockQ5_K> &&
              kHasItsLayout<BlockQ6_K>);

}  // namespace yangtuo
