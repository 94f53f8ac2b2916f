#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "inference_core/base/cpu.h"
#include "inference_core/quant/load_groups.h"
#include "inference_core/quant/quantize_searched.h"
#include "inference_core/quant/scale_search.h"
#include "inference_core/quant/vector_build.h"

namespace yangtuo {
namespace {

constexpr auto kGroup = static_cast<std::size_t>(kInt4Group);
constexpr CodeRange kCodes{-8.0F, 7.0F};
constexpr float kLargestMultiplier = 15.0F;

// The value of largest magnitude falls on code -8 or close to it, or (second row) on the other side
// of zero, where there is one code less.
constexpr float kSameSide[] = {-7.0F, -7.3F, -7.6F, -7.9F, -8.2F, -8.5F, -8.8F, -9.1F};
constexpr float kOtherSide[] = {6.2F, 6.5F, 6.8F, 7.1F, 7.4F, 7.7F, 8.0F};

// Row scales tried by estimate: with the largest group's scale on multiplier 11 up to 30 (more than
// 15: its outliers are cut, for the sake of all others).
constexpr int kRowScales = 64;
constexpr float kFirstOn = 11.0F;
constexpr float kLastOn = 30.0F;
constexpr std::size_t kFinals = 4;  // of these, tried with their codes
constexpr int kRounds = 2;          // of choosing multipliers and fitting the row's scale to them

// Eight groups of a row: their values, the scales that fit them best with either sign, and the
// multipliers that are being tried.
struct Part {
  GroupLanes<kGroup> groups;
  Lanes scales[2];      // for kSameSide and kOtherSide
  Lanes curvatures[2];  // what an error of the scale costs, times its square
  Lanes losses[2];      // with the scale as it is, against the better of both
  Lanes multipliers;
};

void FitPart(Part& part) {
  Lanes saved[2];
  for (std::size_t side = 0; side < 2; ++side) {
    FitScale(part.groups, kCodes, side == 0 ? std::span<const float>(kSameSide) : kOtherSide,
             part.scales[side]);
    ScaleSums sums;
    SumCodes(part.groups, kCodes, part.scales[side], sums);
    part.curvatures[side] = sums.qq;
    saved[side] = part.scales[side] * (2.0F * sums.qx - part.scales[side] * sums.qq);
  }
  const Lanes best = saved[0] > saved[1] ? saved[0] : saved[1];
  part.losses[0] = best - saved[0];
  part.losses[1] = best - saved[1];
}

// What `row_scale` costs when the codes stay those of the fitted scales: a little more than it
// does.
float EstimateLoss(std::span<const Part> parts, float row_scale) {
  const float inverse = 1.0F / row_scale;
  Lanes sum{};
  for (const Part& part : parts) {
    Lanes losses[2];
    for (std::size_t side = 0; side < 2; ++side) {
      Lanes multiplier = part.scales[side] * inverse;
      ClampLanes(-kLargestMultiplier, kLargestMultiplier, multiplier);
      RoundLanes(multiplier);
      const Lanes off = multiplier * row_scale - part.scales[side];
      losses[side] = part.losses[side] + part.curvatures[side] * off * off;
    }
    sum += losses[0] < losses[1] ? losses[0] : losses[1];
  }
  return SumOf(sum);
}

// Chooses every group's multiplier among those next to its fitted scales. Returns the error.
float ChooseMultipliers(std::span<Part> parts, float row_scale) {
  const float inverse = 1.0F / row_scale;
  Lanes total{};
  for (Part& part : parts) {
    Lanes best = Lanes{} + std::numeric_limits<float>::infinity();
    for (const Lanes& scale : part.scales) {
      for (const float step : {-1.0F, 0.0F, 1.0F}) {
        Lanes multiplier = scale * inverse;
        RoundLanes(multiplier);
        multiplier += step;
        ClampLanes(-kLargestMultiplier, kLargestMultiplier, multiplier);
        Lanes error;
        SumErrors(part.groups, kCodes, multiplier * row_scale, error);
        part.multipliers = error < best ? multiplier : part.multipliers;
        best = error < best ? error : best;
      }
    }
    total += best;
  }
  return SumOf(total);
}

// The scale that suits the multipliers and their codes best.
float FitRowScale(std::span<const Part> parts, float row_scale) {
  Lanes qx{};
  Lanes qq{};
  for (const Part& part : parts) {
    ScaleSums sums;
    SumCodes(part.groups, kCodes, part.multipliers * row_scale, sums);
    qx += part.multipliers * sums.qx;
    qq += part.multipliers * part.multipliers * sums.qq;
  }
  const float divisor = SumOf(qq);
  return divisor > 0.0F ? SumOf(qx) / divisor : row_scale;
}

struct Candidate {
  float row_scale;
  float loss;
};

// The best few row scales by estimate, best first. `largest` is the largest fitted scale.
std::array<Candidate, kFinals> BestEstimates(std::span<const Part> parts, float largest) {
  std::array<Candidate, kFinals> best;
  best.fill({largest / kLargestMultiplier, std::numeric_limits<float>::infinity()});
  for (int i = 0; i < kRowScales; ++i) {
    const float on = kFirstOn + (kLastOn - kFirstOn) * static_cast<float>(i) / (kRowScales - 1);
    const float row_scale = largest / on;
    const Candidate candidate{row_scale, EstimateLoss(parts, row_scale)};
    if (candidate.loss < best.back().loss) {
      best.back() = candidate;
      std::sort(best.begin(), best.end(),
                [](const Candidate& a, const Candidate& b) { return a.loss < b.loss; });
    }
  }
  return best;
}

// The best scale found, with its multipliers in `parts`.
float SearchRowScale(std::span<Part> parts, float largest) {
  float best_error = std::numeric_limits<float>::infinity();
  float best = 0.0F;
  for (const Candidate& start : BestEstimates(parts, largest)) {
    float row_scale = start.row_scale;
    for (int round = 0; round < kRounds; ++round) {
      const float error = ChooseMultipliers(parts, row_scale);
      if (error < best_error) {
        best_error = error;
        best = row_scale;
      }
      row_scale = FitRowScale(parts, row_scale);
    }
    if (const float error = ChooseMultipliers(parts, row_scale); error < best_error) {
      best_error = error;
      best = row_scale;
    }
  }
  ChooseMultipliers(parts, best);
  return best;
}

// The codes of all groups, plus 8, and their multipliers.
void WritePart(const Part& part, float row_scale, std::size_t groups, std::byte* codes,
               std::byte* multipliers) {
  Lanes inverse;
  InvertLanes(part.multipliers * row_scale, inverse);
  for (std::size_t i = 0; i < kGroup / 2; ++i) {
    Lanes low = part.groups.x[i] * inverse;
    Lanes high = part.groups.x[i + kGroup / 2] * inverse;
    for (Lanes* code : {&low, &high}) {
      ClampLanes(kCodes.low, kCodes.high, *code);
      RoundLanes(*code);
    }
    for (std::size_t lane = 0; lane < groups; ++lane) {
      codes[lane * (kGroup / 2) + i] = static_cast<std::byte>(
          (static_cast<int>(low[lane]) + 8) | (static_cast<int>(high[lane]) + 8) << 4);
    }
  }
  for (std::size_t lane = 0; lane < groups; ++lane) {
    multipliers[lane] = static_cast<std::byte>(static_cast<int>(part.multipliers[lane]));
  }
}

void SearchRow(std::span<const float> x, std::span<const float> importance,
               std::span<std::byte> row) {
  constexpr std::size_t kPart = kGroup * kLanes;
  const float factor = NormalizingFactor(x);
  const ColumnWeights weights(importance);
  std::vector<Part> parts((x.size() + kPart - 1) / kPart);
  float largest = 0.0F;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const std::size_t begin = p * kPart;
    const std::size_t count = std::min(kPart, x.size() - begin);
    LoadGroups(x.subspan(begin, count), factor, weights, begin, parts[p].groups);
    FitPart(parts[p]);
    for (const Lanes& scale : parts[p].scales) {
      largest = std::max({largest, LargestOf(scale), LargestOf(-scale)});
    }
  }
  // Without a value that counts every scale is 0, and so is every code.
  const float row_scale = largest > 0.0F ? SearchRowScale(parts, largest) : 0.0F;
  const std::size_t groups = (x.size() + kGroup - 1) / kGroup;
  std::byte* multipliers = row.data() + groups * (kGroup / 2);
  for (std::size_t p = 0; p < parts.size(); ++p) {
    if (row_scale == 0.0F) {
      parts[p].multipliers = Lanes{};
    }
    WritePart(parts[p], row_scale, std::min(kLanes, groups - p * kLanes),
              row.data() + p * kLanes * (kGroup / 2), multipliers + p * kLanes);
  }
  const float scale = row_scale / factor;
  std::memcpy(multipliers + groups, &scale, sizeof scale);
}

YANGTUO_BUILD_FOR_AVX2 void SearchRowAvx2(std::span<const float> x,
                                          std::span<const float> importance,
                                          std::span<std::byte> row) {
  SearchRow(x, importance, row);
}

}  // namespace

void SearchInt4(std::span<const float> x, std::span<const float> importance,
                std::span<std::byte> row) {
  GetCpuFeatures().avx2 ? SearchRowAvx2(x, importance, row) : SearchRow(x, importance, row);
}

}  // namespace yangtuo
