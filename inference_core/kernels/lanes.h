#pragma once

#include <cstdint>

namespace yangtuo::kernels {

// Sixteen floats that are added and multiplied lane by lane: one AVX-512 register, two of AVX, four
// of SSE. Sums over a row keep sixteen partial sums whatever the instruction set, and products are
// never fused with sums (-ffp-contract=off), so every machine computes the same bits.
//
// Lanes are passed by reference only: by value their ABI depends on the instruction set.
using Lanes [[gnu::vector_size(64)]] = float;
using IntLanes [[gnu::vector_size(64)]] = std::int32_t;
// The same at any address.
using UnalignedLanes [[gnu::vector_size(64), gnu::aligned(4)]] = float;

constexpr std::int64_t kLanes = 16;

[[gnu::always_inline]] inline void LoadLanes(const float* src, Lanes& lanes) {
  lanes = *reinterpret_cast<const UnalignedLanes*>(src);
}
[[gnu::always_inline]] inline void StoreLanes(const Lanes& lanes, float* dst) {
  *reinterpret_cast<UnalignedLanes*>(dst) = lanes;
}

// Pairs first, then pairs of pairs: the order is part of the function.
[[gnu::always_inline]] inline float SumOfLanes(const Lanes& lanes) {
  float half[8];
  for (int i = 0; i < 8; ++i) {
    half[i] = lanes[i] + lanes[i + 8];
  }
  return ((half[0] + half[4]) + (half[2] + half[6])) + ((half[1] + half[5]) + (half[3] + half[7]));
}

// x = exp(x), relative error below 3e-7; 0 below -87, exp(88) above 88; NaN stays NaN.
//
// x = n ln 2 + r with n whole and |r| <= ln 2 / 2; exp(r) is the polynomial of Cephes' expf.
[[gnu::always_inline]] inline void ExpLanes(Lanes& x) {
  const Lanes zero = {};
  const float round = 12582912.0F;  // 1.5 * 2^23: adding it leaves n in the low bits
  const Lanes limited = x > 88.0F ? zero + 88.0F : x;
  const Lanes shifted = limited * 1.44269504088896341F + round;
  const Lanes n = shifted - round;
  const Lanes r = (limited - n * 0.693359375F) - n * -2.12194440e-4F;
  Lanes p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  const std::int32_t round_bits = 0x4B400000;
  const IntLanes exponent = (reinterpret_cast<IntLanes>(shifted) - round_bits + 127) << 23;
  x = x < -87.0F ? zero : p * reinterpret_cast<Lanes>(exponent);
}

}  // namespace yangtuo::kernels
