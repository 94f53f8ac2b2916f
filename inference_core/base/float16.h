#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace yangtuo {

// 16-bit floating-point numbers are carried as their bits (std::uint16_t): bf16 has the exponent of
// a float and 8 bits of precision, f16 is IEEE 754 binary16. Narrowing rounds to nearest, ties to
// even; a value too large becomes infinity. NaN stays NaN (quiet, with its sign). Results do not
// depend on the instruction set.

// Exact.
[[nodiscard]] constexpr float Bf16ToFloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

[[nodiscard]] constexpr std::uint16_t FloatToBf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) {
    // The payload may lie in the lower half only: without the quiet bit NaN would become infinity.
    return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  }
  const std::uint32_t ties_to_even = 0x7FFFU + ((bits >> 16) & 1U);
  return static_cast<std::uint16_t>((bits + ties_to_even) >> 16);
}

// Exact.
[[nodiscard]] constexpr float F16ToFloat(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000U) << 16;
  const std::uint32_t exponent = (bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24, exact in a float
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  if (exponent == 0x1FU) {
    const std::uint32_t quiet = mantissa == 0 ? 0U : 0x00400000U;
    return std::bit_cast<float>(sign | 0x7F800000U | quiet | (mantissa << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (mantissa << 13));
}

[[nodiscard]] constexpr std::uint16_t FloatToF16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t half = 0;
  if (magnitude > 0x7F800000U) {
    half = 0x7E00U | ((magnitude >> 13) & 0x3FFU);
  } else if (magnitude >= 0x47800000U) {  // 2^16 and above, infinity included
    half = 0x7C00U;
  } else if (magnitude < 0x38800000U) {  // below 2^-14, the smallest normal f16
    // Adding 0.5 aligns the last f16 bit (2^-24) with the last bit of the float, which rounds.
    const float aligned = std::bit_cast<float>(magnitude) + 0.5F;
    half = std::bit_cast<std::uint32_t>(aligned) - 0x3F000000U;
  } else {
    const std::uint32_t ties_to_even = 0xFFFU + ((magnitude >> 13) & 1U);
    half = (magnitude + ties_to_even - (112U << 23)) >> 13;  // a carry into infinity is right
  }
  return static_cast<std::uint16_t>(sign | half);
}

// The same for whole rows; `x` and `y` have the same size and do not overlap.
void Bf16ToFloat(std::span<const std::uint16_t> x, std::span<float> y);
void FloatToBf16(std::span<const float> x, std::span<std::uint16_t> y);
void F16ToFloat(std::span<const std::uint16_t> x, std::span<float> y);
void FloatToF16(std::span<const float> x, std::span<std::uint16_t> y);

}  // namespace yangtuo
