#pragma once

#include <span>

#include "inference_core/quant/lanes.h"

namespace yangtuo {

// Searches for scales of groups that have no offset: a value is scale * code, code an integer in
// [kLow, kHigh]. All in lanes: each group has its own scale.
struct CodeRange {
  float low;
  float high;
};

// Sums of weight * code * x and weight * code^2: the best scale for these codes is qx / qq, and it
// saves qx^2 / qq of the sum of weight * x^2.
struct ScaleSums {
  Lanes qx;
  Lanes qq;
};

template <std::size_t kSize>
void SumCodes(const GroupLanes<kSize>& groups, CodeRange range, const Lanes& scale,
              ScaleSums& sums) {
  Lanes inverse;
  InvertLanes(scale, inverse);
  Lanes qx{};
  Lanes qq{};
  for (std::size_t i = 0; i < kSize; ++i) {
    Lanes code = groups.x[i] * inverse;
    ClampLanes(range.low, range.high, code);
    RoundLanes(code);
    const Lanes weighted = groups.weights[i] * code;
    qx += weighted * groups.x[i];
    qq += weighted * code;
  }
  sums = {qx, qq};
}

// The sum of weight * squared error with the best codes for `scale`.
template <std::size_t kSize>
void SumErrors(const GroupLanes<kSize>& groups, CodeRange range, const Lanes& scale, Lanes& error) {
  Lanes inverse;
  InvertLanes(scale, inverse);
  Lanes sum{};
  for (std::size_t i = 0; i < kSize; ++i) {
    Lanes code = groups.x[i] * inverse;
    ClampLanes(range.low, range.high, code);
    RoundLanes(code);
    const Lanes rest = groups.x[i] - scale * code;
    sum += groups.weights[i] * rest * rest;
  }
  error = sum;
}

// The value of largest magnitude, with its sign.
template <std::size_t kSize>
void FindExtremes(const GroupLanes<kSize>& groups, Lanes& extremes) {
  Lanes low{};
  Lanes high{};
  for (const Lanes& x : groups.x) {
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  extremes = high >= -low ? high : low;
}

// Tries extreme / step for every step and keeps the scale that saves most.
template <std::size_t kSize>
void FitScale(const GroupLanes<kSize>& groups, CodeRange range, std::span<const float> steps,
              Lanes& scale) {
  Lanes extremes;
  FindExtremes(groups, extremes);
  const Lanes zero{};
  scale = zero;
  Lanes saved{};
  for (const float step : steps) {
    const Lanes tried = extremes / step;
    ScaleSums sums;
    SumCodes(groups, range, tried, sums);
    Lanes inverse;
    InvertLanes(sums.qq, inverse);
    const Lanes fitted = sums.qx * inverse;
    const Lanes saves = sums.qx * fitted;
    scale = saves > saved ? fitted : scale;
    saved = saves > saved ? saves : saved;
  }
}

}  // namespace yangtuo
