#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "inference_core/kernels/lanes.h"

namespace yangtuo::kernels {

// Sixteen floats made narrower: to bf16 or to integers with a scale.

using ShortLanes [[gnu::vector_size(32)]] = std::int16_t;
using ByteLanes [[gnu::vector_size(16)]] = std::int8_t;

// The first `count` of them, zeros after.
[[gnu::always_inline]] inline void LoadPartly(const float* src, std::int64_t count, Lanes& lanes) {
  if (count >= kLanes) {
    LoadLanes(src, lanes);
    return;
  }
  lanes = Lanes{};
  for (std::int64_t i = 0; i < count; ++i) {
    lanes[i] = src[i];
  }
}

// Smaller magnitudes become zero when they are rounded to bf16. Every product of two bf16 numbers
// is then a multiple of 2^-114, and so is every sum of products: no sum is ever subnormal, which
// CPUs with bf16 products take for zero and others do not.
constexpr float kSmallestBf16 = 0x1p-50F;

// Rounds to nearest even in place: the upper halves of the floats are their bf16. NaN stays NaN.
[[gnu::always_inline]] inline void RoundLanesToBf16(Lanes& x) {
  const IntLanes bits = reinterpret_cast<IntLanes>(x);
  const IntLanes magnitude = bits & 0x7FFFFFFF;
  const IntLanes rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) & -65536;
  const IntLanes quiet = (bits | 0x00400000) & -65536;
  const IntLanes number = magnitude > 0x7F800000 ? quiet : rounded;
  const std::int32_t smallest = (127 - 50) << 23;
  x = reinterpret_cast<Lanes>(magnitude < smallest ? IntLanes{} : number);
}

// The upper halves of sixteen floats, 32 bytes.
[[gnu::always_inline]] inline void StoreUpperHalves(const Lanes& x, std::byte* dst) {
  const IntLanes upper = reinterpret_cast<IntLanes>(x) >> 16;
  const auto halves = __builtin_convertvector(upper, ShortLanes);
  std::memcpy(dst, &halves, sizeof(halves));
}

// |x| < 2^21, rounded to nearest even.
[[gnu::always_inline]] inline void RoundLanes(const Lanes& x, IntLanes& rounded) {
  const float round = 12582912.0F;  // 1.5 * 2^23: adding it leaves x in the low bits
  const std::int32_t round_bits = 0x4B400000;
  rounded = reinterpret_cast<IntLanes>(x + round) - round_bits;
}
[[gnu::always_inline]] inline void StoreRoundedShorts(const Lanes& x, std::byte* dst) {
  IntLanes rounded;
  RoundLanes(x, rounded);
  const auto shorts = __builtin_convertvector(rounded, ShortLanes);
  std::memcpy(dst, &shorts, sizeof(shorts));
}
[[gnu::always_inline]] inline void StoreRoundedBytes(const Lanes& x, std::byte* dst) {
  IntLanes rounded;
  RoundLanes(x, rounded);
  const auto bytes = __builtin_convertvector(rounded, ByteLanes);
  std::memcpy(dst, &bytes, sizeof(bytes));
}

[[gnu::always_inline]] inline float LargestLane(const Lanes& lanes) {
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t lane = 0; lane < kLanes; ++lane) {
    largest = std::max(largest, static_cast<float>(lanes[lane]));
  }
  return largest;
}

// What decides the scale of a row of integers.
struct Magnitude {
  float largest = 0.0F;
  float poison = 0.0F;  // zero; NaN when an element is no finite number
};
[[gnu::always_inline]] inline void AddMagnitudes(const Lanes& x, Lanes& largest, Lanes& sum) {
  const Lanes magnitude = reinterpret_cast<Lanes>(reinterpret_cast<IntLanes>(x) & 0x7FFFFFFF);
  largest = magnitude > largest ? magnitude : largest;
  sum += magnitude;
}
[[gnu::always_inline]] inline Magnitude JoinMagnitudes(const Lanes& largest, const Lanes& sum) {
  return {.largest = LargestLane(largest), .poison = SumOfLanes(sum) * 0.0F};
}
[[gnu::always_inline]] inline Magnitude MagnitudeOf(const float* x, std::int64_t count) {
  Lanes largest = {};
  Lanes sum = {};
  for (std::int64_t i = 0; i < count; i += kLanes) {
    Lanes lanes;
    LoadPartly(x + i, count - i, lanes);
    AddMagnitudes(lanes, largest, sum);
  }
  return JoinMagnitudes(largest, sum);
}
// integer = x * InverseScale rounded; x is about integer * Scale. A row that is nearly zero is
// zero, and a row with an element that is no finite number has a scale that is none.
[[gnu::always_inline]] inline float InverseScale(const Magnitude& magnitude, float most) {
  const bool usable = magnitude.largest > 1e-30F && magnitude.poison == 0.0F;
  return usable ? most / magnitude.largest : 0.0F;
}
[[gnu::always_inline]] inline float Scale(const Magnitude& magnitude, float most) {
  return magnitude.largest / most + magnitude.poison;
}

}  // namespace yangtuo::kernels
