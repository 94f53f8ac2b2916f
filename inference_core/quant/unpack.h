#pragma once

#include <cstddef>
#include <cstdint>

#include "inference_core/quant/blocks.h"

namespace yangtuo {

// What a block says, spread out: element i is scales[i / kGroup] * codes[i], plus
// offsets[i / kGroup] where the type has offsets.
template <std::size_t kElements, std::size_t kGroup, bool kOffsets>
struct UnpackedBlock {
  static constexpr std::size_t kSize = kElements;
  static constexpr std::size_t kGroupSize = kGroup;
  static constexpr bool kHasOffsets = kOffsets;
  std::int8_t codes[kElements];
  float scales[kElements / kGroup];
  float offsets[kElements / kGroup];
};
using UnpackedScaled32 = UnpackedBlock<32, 32, false>;
using UnpackedOffset32 = UnpackedBlock<32, 32, true>;
using UnpackedScaled256 = UnpackedBlock<256, 16, false>;

// 6-bit scale and minimum of the groups of a Q4_K or Q5_K block in 12 bytes: groups 0-3 have theirs
// in the low six bits of bytes j and j + 4; groups 4-7 have four bits in byte j + 4 (scale low,
// minimum high) and two on top of bytes j - 4 and j.
struct ScaleAndMin {
  std::uint8_t scale;
  std::uint8_t min;
};

inline ScaleAndMin PackedScaleAndMin(const std::uint8_t (&packed)[12], std::size_t group) {
  if (group < 4) {
    return {static_cast<std::uint8_t>(packed[group] & 63U),
            static_cast<std::uint8_t>(packed[group + 4] & 63U)};
  }
  const std::uint32_t low = packed[group - 4];
  const std::uint32_t middle = packed[group];
  const std::uint32_t high = packed[group + 4];
  return {static_cast<std::uint8_t>((high & 15U) | (low >> 6U << 4U)),
          static_cast<std::uint8_t>((high >> 4U) | (middle >> 6U << 4U))};
}

// The lower and the upper halves of 16 bytes, less `zero`.
inline void UnpackNibbles(const std::uint8_t (&bytes)[16], int zero, std::int8_t* codes) {
  for (std::size_t i = 0; i < 16; ++i) {
    codes[i] = static_cast<std::int8_t>((bytes[i] & 15) - zero);
    codes[16 + i] = static_cast<std::int8_t>((bytes[i] >> 4) - zero);
  }
}

inline void AddFifthBits(const std::uint8_t (&fifth)[4], std::int8_t* codes) {
  for (std::size_t i = 0; i < 32; ++i) {
    codes[i] = static_cast<std::int8_t>(codes[i] + (((fifth[i / 8] >> (i % 8)) & 1) << 4));
  }
}

inline void Unpack(const BlockQ4_0& block, UnpackedScaled32& to) {
  to.scales[0] = block.d.value();
  UnpackNibbles(block.codes, 8, to.codes);
}

inline void Unpack(const BlockQ4_1& block, UnpackedOffset32& to) {
  to.scales[0] = block.d.value();
  to.offsets[0] = block.m.value();
  UnpackNibbles(block.codes, 0, to.codes);
}

inline void Unpack(const BlockQ5_0& block, UnpackedScaled32& to) {
  to.scales[0] = block.d.value();
  UnpackNibbles(block.codes, 16, to.codes);
  AddFifthBits(block.fifth, to.codes);
}

inline void Unpack(const BlockQ5_1& block, UnpackedOffset32& to) {
  to.scales[0] = block.d.value();
  to.offsets[0] = block.m.value();
  UnpackNibbles(block.codes, 0, to.codes);
  AddFifthBits(block.fifth, to.codes);
}

inline void Unpack(const BlockQ8_0& block, UnpackedScaled32& to) {
  to.scales[0] = block.d.value();
  std::memcpy(to.codes, block.codes, sizeof to.codes);
}

// Two bits of each element, from both halves of a block of 256.
inline void UnpackPairs(const std::uint8_t (&bytes)[64], std::int8_t* codes) {
  for (std::size_t half = 0; half < 2; ++half) {
    for (std::size_t part = 0; part < 4; ++part) {
      for (std::size_t i = 0; i < 32; ++i) {
        codes[128 * half + 32 * part + i] =
            static_cast<std::int8_t>((bytes[32 * half + i] >> (2 * part)) & 3);
      }
    }
  }
}

inline void Unpack(const BlockQ2_K& block, UnpackedBlock<256, 16, true>& to) {
  const float d = block.d.value();
  const float dmin = block.dmin.value();
  for (std::size_t j = 0; j < 16; ++j) {
    to.scales[j] = d * static_cast<float>(block.scales[j] & 15);
    to.offsets[j] = -(dmin * static_cast<float>(block.scales[j] >> 4));
  }
  UnpackPairs(block.codes, to.codes);
}

inline void Unpack(const BlockQ3_K& block, UnpackedScaled256& to) {
  const float d = block.d.value();
  for (std::size_t j = 0; j < 16; ++j) {
    const int low = (block.scales[j % 8] >> (j < 8 ? 0 : 4)) & 15;
    const int high = (block.scales[8 + j % 4] >> (2 * (j / 4))) & 3;
    to.scales[j] = d * static_cast<float>((low | (high << 4)) - 32);
  }
  UnpackPairs(block.codes, to.codes);
  for (std::size_t part = 0; part < 8; ++part) {
    for (std::size_t i = 0; i < 32; ++i) {
      const int third = (block.third[i] >> part) & 1;
      std::int8_t& code = to.codes[32 * part + i];
      code = static_cast<std::int8_t>(code + 4 * third - 4);
    }
  }
}

template <typename Block>
void UnpackFourBits(const Block& block, UnpackedBlock<256, 32, true>& to) {
  const float d = block.d.value();
  const float dmin = block.dmin.value();
  for (std::size_t j = 0; j < 8; ++j) {
    const ScaleAndMin group = PackedScaleAndMin(block.scales, j);
    to.scales[j] = d * static_cast<float>(group.scale);
    to.offsets[j] = -(dmin * static_cast<float>(group.min));
  }
  for (std::size_t pair = 0; pair < 4; ++pair) {
    for (std::size_t i = 0; i < 32; ++i) {
      const std::uint8_t byte = block.codes[32 * pair + i];
      to.codes[64 * pair + i] = static_cast<std::int8_t>(byte & 15);
      to.codes[64 * pair + 32 + i] = static_cast<std::int8_t>(byte >> 4);
    }
  }
}

inline void Unpack(const BlockQ4_K& block, UnpackedBlock<256, 32, true>& to) {
  UnpackFourBits(block, to);
}

inline void Unpack(const BlockQ5_K& block, UnpackedBlock<256, 32, true>& to) {
  UnpackFourBits(block, to);
  for (std::size_t group = 0; group < 8; ++group) {
    for (std::size_t i = 0; i < 32; ++i) {
      const int fifth = (block.fifth[i] >> group) & 1;
      std::int8_t& code = to.codes[32 * group + i];
      code = static_cast<std::int8_t>(code + 16 * fifth);
    }
  }
}

inline void Unpack(const BlockQ6_K& block, UnpackedScaled256& to) {
  const float d = block.d.value();
  for (std::size_t j = 0; j < 16; ++j) {
    to.scales[j] = d * static_cast<float>(block.scales[j]);
  }
  for (std::size_t half = 0; half < 2; ++half) {
    const std::uint8_t* low = block.low + 64 * half;
    const std::uint8_t* high = block.high + 32 * half;
    std::int8_t* codes = to.codes + 128 * half;
    for (std::size_t part = 0; part < 4; ++part) {
      const std::uint8_t* nibbles = low + 32 * (part % 2);
      const unsigned shift = part < 2 ? 0 : 4;
      for (std::size_t i = 0; i < 32; ++i) {
        const int upper = (high[i] >> (2 * part)) & 3;
        codes[32 * part + i] =
            static_cast<std::int8_t>((((nibbles[i] >> shift) & 15) | (upper << 4)) - 32);
      }
    }
  }
}

}  // namespace yangtuo
