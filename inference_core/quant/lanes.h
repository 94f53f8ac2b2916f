#pragma once

#include <cstddef>
#include <span>

namespace yangtuo {

// Eight groups of a row side by side, one a lane: a search then decides for each group by itself,
// and no sum runs across lanes. Operations on Lanes are element-wise on every CPU (GCC's and
// clang's vector extension); comparisons give masks for `mask ? a : b`. Passed by reference only:
// how they are passed by value depends on the instruction set.
inline constexpr std::size_t kLanes = 8;
using Lanes =
    float __attribute__((vector_size(kLanes * sizeof(float)), aligned(kLanes * sizeof(float))));

// A group of kSize elements in each lane.
template <std::size_t kSize>
struct GroupLanes {
  static constexpr std::size_t kGroupSize = kSize;
  Lanes x[kSize];
  Lanes weights[kSize];
};

// To nearest, ties to even, for magnitudes below 2^22: adding 1.5 * 2^23 leaves no bits below one.
inline void RoundLanes(Lanes& v) {
  constexpr float kNoFraction = 12582912.0F;
  v = (v + kNoFraction) - kNoFraction;
}

inline void ClampLanes(float low, float high, Lanes& v) {
  const Lanes lows = Lanes{} + low;
  const Lanes highs = Lanes{} + high;
  v = v < lows ? lows : v;
  v = v > highs ? highs : v;
}

// 1 / v; 0 where v is 0.
inline void InvertLanes(const Lanes& v, Lanes& inverse) {
  const Lanes zero{};
  const Lanes one = zero + 1.0F;
  inverse = v == zero ? zero : one / (v == zero ? one : v);
}

inline float SumOf(const Lanes& v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

inline float LargestOf(const Lanes& v) {
  float largest = v[0];
  for (std::size_t lane = 1; lane < kLanes; ++lane) {
    largest = v[lane] > largest ? v[lane] : largest;
  }
  return largest;
}

}  // namespace yangtuo
