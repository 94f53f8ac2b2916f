#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "inference_core/base/cpu.h"
#include "inference_core/quant/load_groups.h"
#include "inference_core/quant/quantize_searched.h"
#include "inference_core/quant/scale_search.h"
#include "inference_core/quant/vector_build.h"

// GGUF's searched types without offsets: Q4_0, whose groups have an f16 scale each, and Q6_K, where
// 16 groups share one and have an integer each.

namespace yangtuo {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// What a reader will see of `value` stored as f16.
float RoundToF16(float value) { return F16ToFloat(FloatToF16(value)); }

// --- Q4_0

constexpr std::size_t kQ4Group = 32;
constexpr CodeRange kQ4Codes{-8.0F, 7.0F};
// The value of largest magnitude falls on code -8 or near it, or near 7.
constexpr float kQ4Steps[] = {-7.0F, -7.2F, -7.4F, -7.6F, -7.8F, -8.0F, -8.2F, -8.4F,
                              -8.6F, -8.8F, -9.0F, 6.4F,  6.7F,  7.0F,  7.3F,  7.6F};

void SearchQ4_0Part(const GroupLanes<kQ4Group>& groups, float factor, std::span<BlockQ4_0> blocks) {
  Lanes scale;
  FitScale(groups, kQ4Codes, kQ4Steps, scale);
  for (std::size_t lane = 0; lane < blocks.size(); ++lane) {
    const std::uint16_t bits = FloatToF16(scale[lane] / factor);
    blocks[lane].d.Set(bits);
    scale[lane] = F16ToFloat(bits) * factor;
  }
  Lanes inverse;
  InvertLanes(scale, inverse);
  for (std::size_t i = 0; i < kQ4Group / 2; ++i) {
    Lanes low = groups.x[i] * inverse;
    Lanes high = groups.x[i + kQ4Group / 2] * inverse;
    for (Lanes* code : {&low, &high}) {
      ClampLanes(kQ4Codes.low, kQ4Codes.high, *code);
      RoundLanes(*code);
    }
    for (std::size_t lane = 0; lane < blocks.size(); ++lane) {
      blocks[lane].codes[i] = static_cast<std::uint8_t>((static_cast<int>(low[lane]) + 8) |
                                                        (static_cast<int>(high[lane]) + 8) << 4);
    }
  }
}

void SearchQ4_0Row(std::span<const float> x, std::span<const float> importance,
                   std::span<BlockQ4_0> blocks) {
  const float factor = NormalizingFactor(x);
  const ColumnWeights weights(importance);
  for (std::size_t first = 0; first < blocks.size(); first += kLanes) {
    const std::size_t count = std::min(kLanes, blocks.size() - first);
    GroupLanes<kQ4Group> groups;
    LoadGroups(x.subspan(first * kQ4Group, count * kQ4Group), factor, weights, first * kQ4Group,
               groups);
    SearchQ4_0Part(groups, factor, blocks.subspan(first, count));
  }
}

// --- Q6_K

constexpr std::size_t kQ6Group = 16;
constexpr std::size_t kQ6Block = 256;
constexpr CodeRange kQ6Codes{-32.0F, 31.0F};
constexpr float kLargestScale = 127.0F;
// Every integer scale whose largest value falls between these codes is tried: with so fine codes
// the scales next to each other differ by chance, by a fifth of the error.
constexpr float kLeastCode = 28.0F;
constexpr float kMostCode = 33.0F;
constexpr int kMostTries = 24;
constexpr int kQ6Rounds = 3;

struct Q6Half {  // eight of the sixteen groups
  GroupLanes<kQ6Group> groups;
  Lanes extremes;
  Lanes scales;  // integers
};

// The best integer scale of each group for `d`. Returns the error.
float ChooseScales(Q6Half& half, float d) {
  Lanes best = Lanes{} + kInfinity;
  // The largest value on code -32 or near it, then near +31.
  for (const float side : {-1.0F, 1.0F}) {
    const Lanes finest = half.extremes / (side * kMostCode * d);
    const Lanes coarsest = half.extremes / (side * kLeastCode * d);
    const Lanes step = (coarsest - finest) / static_cast<float>(kMostTries - 1);
    const Lanes one = Lanes{} + 1.0F;
    // Steps below one would try some scales twice; a group that is small beside the others has few.
    const Lanes magnitude = step < Lanes{} ? -step : step;
    Lanes stride = magnitude < one ? one : magnitude;
    stride = half.extremes * side < Lanes{} ? -stride : stride;
    const float tries = LargestOf((coarsest - finest) / stride) + 2.0F;
    for (int i = 0; i < std::min(kMostTries, static_cast<int>(tries)); ++i) {
      Lanes scale = finest + stride * static_cast<float>(i);
      ClampLanes(-kLargestScale - 1.0F, kLargestScale, scale);
      RoundLanes(scale);
      Lanes error;
      SumErrors(half.groups, kQ6Codes, scale * d, error);
      half.scales = error < best ? scale : half.scales;
      best = error < best ? error : best;
    }
  }
  return SumOf(best);
}

// The d that suits the scales and their codes best.
float FitQ6D(const Q6Half (&halves)[2], float d) {
  float qx = 0.0F;
  float qq = 0.0F;
  for (const Q6Half& half : halves) {
    ScaleSums sums;
    SumCodes(half.groups, kQ6Codes, half.scales * d, sums);
    qx += SumOf(half.scales * sums.qx);
    qq += SumOf(half.scales * half.scales * sums.qq);
  }
  return qq > 0.0F ? qx / qq : d;
}

void WriteQ6Codes(const Q6Half& half, float d, std::uint8_t* low, std::uint8_t* high) {
  Lanes inverse;
  InvertLanes(half.scales * d, inverse);
  for (std::size_t i = 0; i < kQ6Group; ++i) {
    Lanes codes = half.groups.x[i] * inverse;
    ClampLanes(kQ6Codes.low, kQ6Codes.high, codes);
    RoundLanes(codes);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const auto code = static_cast<unsigned>(static_cast<int>(codes[lane]) + 32);
      const std::size_t element = lane * kQ6Group + i;  // 0..127
      const std::size_t part = element / 32;
      low[element % 64] |= static_cast<std::uint8_t>((code & 15U) << (part < 2 ? 0 : 4));
      high[element % 32] |= static_cast<std::uint8_t>(code >> 4 << (2 * part));
    }
  }
}

void SearchQ6_KBlock(std::span<const float> x, const ColumnWeights& weights, std::size_t first,
                     BlockQ6_K& block) {
  const float factor = NormalizingFactor(x);
  Q6Half halves[2];
  float largest = 0.0F;
  for (std::size_t h = 0; h < 2; ++h) {
    LoadGroups(x.subspan(h * kQ6Block / 2, kQ6Block / 2), factor, weights, first + h * kQ6Block / 2,
               halves[h].groups);
    FindExtremes(halves[h].groups, halves[h].extremes);
    largest = std::max({largest, LargestOf(halves[h].extremes), LargestOf(-halves[h].extremes)});
  }
  // The largest group's scale is 127 with its largest value on code 31.5.
  float tried = largest / (31.5F * kLargestScale);
  float best_error = kInfinity;
  float best = 0.0F;
  for (int round = 0; round < kQ6Rounds; ++round) {
    const float d = RoundToF16(tried / factor) * factor;  // as a reader will see it
    if (d == 0.0F) {
      break;
    }
    const float error = ChooseScales(halves[0], d) + ChooseScales(halves[1], d);
    if (error < best_error) {
      best_error = error;
      best = d;
    }
    tried = FitQ6D(halves, d);
  }
  std::memset(&block, 0, sizeof block);
  block.d.Set(FloatToF16(best / factor));
  for (std::size_t h = 0; h < 2; ++h) {
    if (best == 0.0F) {
      halves[h].scales = Lanes{};
    } else {
      ChooseScales(halves[h], best);
    }
    WriteQ6Codes(halves[h], best, block.low + 64 * h, block.high + 32 * h);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      block.scales[kLanes * h + lane] =
          static_cast<std::int8_t>(static_cast<int>(halves[h].scales[lane]));
    }
  }
}

void SearchQ6_KRow(std::span<const float> x, std::span<const float> importance,
                   std::span<BlockQ6_K> blocks) {
  const ColumnWeights weights(importance);
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    SearchQ6_KBlock(x.subspan(b * kQ6Block, kQ6Block), weights, b * kQ6Block, blocks[b]);
  }
}

YANGTUO_BUILD_FOR_AVX2 void SearchQ4_0RowAvx2(std::span<const float> x,
                                              std::span<const float> importance,
                                              std::span<BlockQ4_0> blocks) {
  SearchQ4_0Row(x, importance, blocks);
}

YANGTUO_BUILD_FOR_AVX2 void SearchQ6_KRowAvx2(std::span<const float> x,
                                              std::span<const float> importance,
                                              std::span<BlockQ6_K> blocks) {
  SearchQ6_KRow(x, importance, blocks);
}

}  // namespace

void SearchQ4_0(std::span<const float> x, std::span<const float> importance,
                std::span<BlockQ4_0> blocks) {
  GetCpuFeatures().avx2 ? SearchQ4_0RowAvx2(x, importance, blocks)
                        : SearchQ4_0Row(x, importance, blocks);
}

void SearchQ6_K(std::span<const float> x, std::span<const float> importance,
                std::span<BlockQ6_K> blocks) {
  GetCpuFeatures().avx2 ? SearchQ6_KRowAvx2(x, importance, blocks)
                        : SearchQ6_KRow(x, importance, blocks);
}

}  // namespace yangtuo
