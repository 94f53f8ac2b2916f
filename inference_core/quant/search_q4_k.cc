#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "inference_core/base/cpu.h"
#include "inference_core/quant/load_groups.h"
#include "inference_core/quant/quantize_searched.h"
#include "inference_core/quant/vector_build.h"

// Q4_K: a block's eight groups, one a lane, have value = scale * code - min, where scale = d *
// (0..63) and min = dmin * (0..63).

namespace yangtuo {
namespace {

constexpr std::size_t kGroup = 32;
constexpr std::size_t kBlock = kGroup * kLanes;
constexpr float kLargestCode = 15.0F;
constexpr float kLargestInteger = 63.0F;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The group's span falls on this many codes.
constexpr float kSpans[] = {13.4F, 13.7F, 14.0F, 14.2F, 14.4F, 14.6F, 14.8F,
                            15.0F, 15.2F, 15.4F, 15.7F, 16.0F, 16.4F};
constexpr int kFits = 2;    // of scale and min to codes and codes to them, after the best span
constexpr int kRounds = 3;  // of choosing integers and fitting d and dmin to them

struct Groups {
  GroupLanes<kGroup> values;
  Lanes weight;  // sum of weights
  Lanes wx;      // sum of weight * x
};

struct ScalesAndMins {
  Lanes scale;
  Lanes min;  // >= 0; subtracted
};

struct CodeSums {  // sums of weight * code, weight * code^2, weight * code * x
  Lanes q;
  Lanes qq;
  Lanes qx;
};

void SumCodes(const Groups& groups, const ScalesAndMins& by, CodeSums& sums) {
  Lanes inverse;
  InvertLanes(by.scale, inverse);
  const Lanes min = by.min;
  Lanes q{};
  Lanes qq{};
  Lanes qx{};
  for (std::size_t i = 0; i < kGroup; ++i) {
    Lanes code = (groups.values.x[i] + min) * inverse;
    ClampLanes(0.0F, kLargestCode, code);
    RoundLanes(code);
    const Lanes weighted = groups.values.weights[i] * code;
    q += weighted;
    qq += weighted * code;
    qx += weighted * groups.values.x[i];
  }
  sums = {q, qq, qx};
}

void SumErrors(const Groups& groups, const ScalesAndMins& by, Lanes& error) {
  Lanes inverse;
  InvertLanes(by.scale, inverse);
  const Lanes scale = by.scale;
  const Lanes min = by.min;
  Lanes sum{};
  for (std::size_t i = 0; i < kGroup; ++i) {
    const Lanes shifted = groups.values.x[i] + min;
    Lanes code = shifted * inverse;
    ClampLanes(0.0F, kLargestCode, code);
    RoundLanes(code);
    const Lanes rest = shifted - scale * code;
    sum += groups.values.weights[i] * rest * rest;
  }
  error = sum;
}

// Scale and min of least squares for codes with these sums; a min below 0 cannot be stored. Returns
// in `saved` how much less the error is than the sum of weight * x^2.
void FitToCodes(const Groups& groups, const CodeSums& sums, ScalesAndMins& to, Lanes& saved) {
  const Lanes zero{};
  const Lanes determinant = groups.weight * sums.qq - sums.q * sums.q;
  Lanes inverse;
  InvertLanes(determinant, inverse);
  const Lanes scale = (groups.weight * sums.qx - groups.wx * sums.q) * inverse;
  const Lanes min = (sums.q * sums.qx - sums.qq * groups.wx) * inverse;
  InvertLanes(sums.qq, inverse);
  const Lanes scale_alone = sums.qx * inverse;
  const auto without_min = min <= zero;
  to.scale = without_min ? scale_alone : scale;
  to.scale = to.scale > zero ? to.scale : zero;
  to.min = without_min ? zero : min;
  saved = to.scale * sums.qx - to.min * groups.wx;
}

// The scales and mins that fit the groups best as if they were stored as floats.
void FitGroups(const Groups& groups, ScalesAndMins& best) {
  Lanes low{};
  Lanes high{};
  for (const Lanes& x : groups.values.x) {
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  best = ScalesAndMins{};
  Lanes most_saved = Lanes{} - kInfinity;
  const auto keep_if_better = [&](const ScalesAndMins& tried, const Lanes& saved) {
    best.scale = saved > most_saved ? tried.scale : best.scale;
    best.min = saved > most_saved ? tried.min : best.min;
    most_saved = saved > most_saved ? saved : most_saved;
  };
  for (const float span : kSpans) {
    CodeSums sums;
    SumCodes(groups, {(high - low) / span, -low}, sums);
    ScalesAndMins fitted;
    Lanes saved;
    FitToCodes(groups, sums, fitted, saved);
    keep_if_better(fitted, saved);
  }
  for (int fit = 0; fit < kFits; ++fit) {
    CodeSums sums;
    SumCodes(groups, best, sums);
    ScalesAndMins fitted;
    Lanes saved;
    FitToCodes(groups, sums, fitted, saved);
    keep_if_better(fitted, saved);
  }
}

// d and dmin as a reader will see them, times the factor of the values.
struct BlockScales {
  float d;
  float dmin;
};

struct Integers {
  Lanes scales;
  Lanes mins;
};

ScalesAndMins Products(const Integers& integers, BlockScales by) {
  return {integers.scales * by.d, integers.mins * by.dmin};
}

// The best integers near the fitted scales and mins. Returns the error.
float ChooseIntegers(const Groups& groups, const ScalesAndMins& fitted, BlockScales by,
                     Integers& integers) {
  const float inverse_d = by.d == 0.0F ? 0.0F : 1.0F / by.d;
  const float inverse_dmin = by.dmin == 0.0F ? 0.0F : 1.0F / by.dmin;
  Lanes best = Lanes{} + kInfinity;
  for (const float scale_step : {-2.0F, -1.0F, 0.0F, 1.0F, 2.0F}) {
    Integers tried;
    tried.scales = fitted.scale * inverse_d;
    RoundLanes(tried.scales);
    tried.scales += scale_step;
    ClampLanes(0.0F, kLargestInteger, tried.scales);
    // A scale that is larger than fitted wants a larger min: values then stay around the middle
    // code.
    const Lanes middle = (tried.scales * by.d - fitted.scale) * (0.5F * kLargestCode);
    Lanes nearest = (fitted.min + middle) * inverse_dmin;
    RoundLanes(nearest);
    for (const float min_step : {-1.0F, 0.0F, 1.0F}) {
      tried.mins = nearest + min_step;
      ClampLanes(0.0F, kLargestInteger, tried.mins);
      Lanes error;
      SumErrors(groups, Products(tried, by), error);
      integers.scales = error < best ? tried.scales : integers.scales;
      integers.mins = error < best ? tried.mins : integers.mins;
      best = error < best ? error : best;
    }
  }
  return SumOf(best);
}

// The d and dmin that suit the integers and their codes best; as they are where there is no such.
BlockScales FitBlockScales(const Groups& groups, const Integers& integers, BlockScales by) {
  CodeSums sums;
  SumCodes(groups, Products(integers, by), sums);
  const auto sum = [](const Lanes& v) { return static_cast<double>(SumOf(v)); };
  const double ss = sum(integers.scales * integers.scales * sums.qq);
  const double sm = sum(integers.scales * integers.mins * sums.q);
  const double mm = sum(integers.mins * integers.mins * groups.weight);
  const double sx = sum(integers.scales * sums.qx);
  const double mx = sum(integers.mins * groups.wx);
  const double determinant = ss * mm - sm * sm;
  if (determinant > 1e-9 * ss * mm) {
    const double d = (sx * mm - mx * sm) / determinant;
    const double dmin = (sx * sm - mx * ss) / determinant;
    if (d > 0.0 && dmin >= 0.0) {
      return {static_cast<float>(d), static_cast<float>(dmin)};
    }
  }
  return ss > 0.0 && mm == 0.0 && sx > 0.0 ? BlockScales{static_cast<float>(sx / ss), by.dmin} : by;
}

void WriteBlock(const Groups& groups, const Integers& integers, BlockScales by, BlockQ4_K& block) {
  const ScalesAndMins products = Products(integers, by);
  Lanes inverse;
  InvertLanes(products.scale, inverse);
  std::memset(block.codes, 0, sizeof block.codes);
  for (std::size_t i = 0; i < kGroup; ++i) {
    Lanes codes = (groups.values.x[i] + products.min) * inverse;
    ClampLanes(0.0F, kLargestCode, codes);
    RoundLanes(codes);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      block.codes[32 * (lane / 2) + i] |= static_cast<std::uint8_t>(
          static_cast<unsigned>(static_cast<int>(codes[lane])) << (lane % 2 == 0 ? 0 : 4));
    }
  }
  std::memset(block.scales, 0, sizeof block.scales);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const auto scale = static_cast<unsigned>(static_cast<int>(integers.scales[lane]));
    const auto min = static_cast<unsigned>(static_cast<int>(integers.mins[lane]));
    if (lane < 4) {
      block.scales[lane] |= static_cast<std::uint8_t>(scale);
      block.scales[lane + 4] |= static_cast<std::uint8_t>(min);
    } else {
      block.scales[lane + 4] = static_cast<std::uint8_t>((scale & 15U) | (min & 15U) << 4);
      block.scales[lane - 4] |= static_cast<std::uint8_t>(scale >> 4 << 6);
      block.scales[lane] |= static_cast<std::uint8_t>(min >> 4 << 6);
    }
  }
}

void SearchBlock(std::span<const float> x, const ColumnWeights& weights, std::size_t first,
                 BlockQ4_K& block) {
  const float factor = NormalizingFactor(x);
  Groups groups{};
  LoadGroups(x, factor, weights, first, groups.values);
  for (std::size_t i = 0; i < kGroup; ++i) {
    groups.weight += groups.values.weights[i];
    groups.wx += groups.values.weights[i] * groups.values.x[i];
  }
  ScalesAndMins fitted;
  FitGroups(groups, fitted);

  const auto as_stored = [&](BlockScales by) {
    return BlockScales{F16ToFloat(FloatToF16(by.d / factor)) * factor,
                       F16ToFloat(FloatToF16(by.dmin / factor)) * factor};
  };
  BlockScales tried{LargestOf(fitted.scale) / kLargestInteger,
                    LargestOf(fitted.min) / kLargestInteger};
  float best_error = kInfinity;
  BlockScales best{};
  Integers best_integers{};
  for (int round = 0; round < kRounds; ++round) {
    tried = as_stored(tried);
    Integers integers{};
    const float error = ChooseIntegers(groups, fitted, tried, integers);
    if (error < best_error) {
      best_error = error;
      best = tried;
      best_integers = integers;
    }
    tried = FitBlockScales(groups, integers, tried);
  }
  block.d.Set(FloatToF16(best.d / factor));
  block.dmin.Set(FloatToF16(best.dmin / factor));
  WriteBlock(groups, best_integers, best, block);
}

void SearchRow(std::span<const float> x, std::span<const float> importance,
               std::span<BlockQ4_K> blocks) {
  const ColumnWeights weights(importance);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    SearchBlock(x.subspan(b * kBlock, kBlock), weights, b * kBlock, blocks[b]);
  }
}

YANGTUO_BUILD_FOR_AVX2 void SearchRowAvx2(std::span<const float> x,
                                          std::span<const float> importance,
                                          std::span<BlockQ4_K> blocks) {
  SearchRow(x, importance, blocks);
}

}  // namespace

void SearchQ4_K(std::span<const float> x, std::span<const float> importance,
                std::span<BlockQ4_K> blocks) {
  GetCpuFeatures().avx2 ? SearchRowAvx2(x, importance, blocks) : SearchRow(x, importance, blocks);
}

}  // namespace yangtuo
