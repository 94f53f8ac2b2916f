#include "inference_core/base/float16.h"

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

constexpr std::uint32_t kAllHalves = 1U << 16;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::uint32_t Bits(float value) { return std::bit_cast<std::uint32_t>(value); }

// Every sign and exponent with random mantissas, and both neighbours of every rounding boundary.
std::vector<float> HardFloats() {
  std::vector<float> floats = {0.0F, -0.0F, kInfinity, -kInfinity};
  std::mt19937 random(1);
  for (std::uint32_t top = 0; top < (1U << 9); ++top) {
    for (int i = 0; i < 50; ++i) {
      floats.push_back(
          std::bit_cast<float>(top << 23 | (static_cast<std::uint32_t>(random()) & 0x7FFFFFU)));
    }
  }
  for (std::uint32_t half = 0; half < kAllHalves; ++half) {
    // Between this f16 and the next one; the same for bf16.
    for (const std::uint32_t tie :
         {Bits(F16ToFloat(static_cast<std::uint16_t>(half))) + 0x1000U, (half << 16) + 0x8000U}) {
      for (const std::uint32_t near : {tie - 1, tie, tie + 1}) {
        floats.push_back(std::bit_cast<float>(near));
      }
    }
  }
  return floats;
}

// The nearest of a guess and its two neighbours, ties to the even one, computed in double.
template <typename Widen>
std::uint16_t NearestByDistance(float value, std::uint16_t guess, Widen widen) {
  std::uint16_t best = guess;
  for (const int step : {-1, 1}) {
    const auto other = static_cast<std::uint16_t>(guess + step);
    if (((other ^ guess) & 0x8000U) != 0 || !std::isfinite(widen(other))) {
      continue;
    }
    const double distance = std::abs(static_cast<double>(value) - widen(other));
    const double fewest = std::abs(static_cast<double>(value) - widen(best));
    if (distance < fewest || (distance == fewest && (other & 1U) == 0)) {
      best = other;
    }
  }
  return best;
}

TEST(Float16Test, EveryF16SurvivesTheWayToFloatAndBack) {
  for (std::uint32_t half = 0; half < kAllHalves; ++half) {
    const float wide = F16ToFloat(static_cast<std::uint16_t>(half));
    if (std::isnan(wide)) {
      EXPECT_EQ(FloatToF16(wide), half | 0x200U);
    } else {
      EXPECT_EQ(FloatToF16(wide), half);
    }
  }
}

TEST(Float16Test, EveryBf16SurvivesTheWayToFloatAndBack) {
  for (std::uint32_t half = 0; half < kAllHalves; ++half) {
    const float wide = Bf16ToFloat(static_cast<std::uint16_t>(half));
    EXPECT_EQ(FloatToBf16(wide), std::isnan(wide) ? half | 0x40U : half);
  }
}

TEST(Float16Test, KnownF16ValuesWiden) {
  EXPECT_EQ(F16ToFloat(0x3C00), 1.0F);
  EXPECT_EQ(F16ToFloat(0xC000), -2.0F);
  EXPECT_EQ(F16ToFloat(0x7BFF), 65504.0F);
  EXPECT_EQ(F16ToFloat(0x0400), 0x1p-14F);
  EXPECT_EQ(F16ToFloat(0x0001), 0x1p-24F);
  EXPECT_EQ(F16ToFloat(0xFC00), -kInfinity);
}

TEST(Float16Test, NarrowingRoundsToNearestTiesToEven) {
  for (const float value : HardFloats()) {
    if (std::isnan(value)) {
      continue;
    }
    const std::uint16_t half = FloatToF16(value);
    if (std::abs(value) < 65504.0F) {
      ASSERT_EQ(half, NearestByDistance(value, half, [](std::uint16_t b) { return F16ToFloat(b); }))
          << value;
    }
    const std::uint16_t brain = FloatToBf16(value);
    if (std::abs(value) < 3.3e38F) {
      ASSERT_EQ(brain,
                NearestByDistance(value, brain, [](std::uint16_t b) { return Bf16ToFloat(b); }))
          << value;
    }
  }
}

TEST(Float16Test, WhatIsTooLargeBecomesInfinity) {
  EXPECT_EQ(FloatToF16(65519.0F), 0x7BFF);
  EXPECT_EQ(FloatToF16(65520.0F), 0x7C00);
  EXPECT_EQ(FloatToF16(-1e30F), 0xFC00);
  EXPECT_EQ(FloatToF16(kInfinity), 0x7C00);
  EXPECT_EQ(FloatToBf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(FloatToBf16(-kInfinity), 0xFF80);
}

TEST(Float16Test, NanStaysNanEvenWhenItsPayloadIsInTheLowBits) {
  for (const std::uint32_t bits : {0x7F800001U, 0xFF800001U, 0x7FC00000U, 0x7FFFFFFFU}) {
    const auto nan = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(nan)))) << bits;
    EXPECT_TRUE(std::isnan(F16ToFloat(FloatToF16(nan)))) << bits;
    EXPECT_EQ(std::signbit(Bf16ToFloat(FloatToBf16(nan))), bits >> 31 != 0);
    EXPECT_EQ(std::signbit(F16ToFloat(FloatToF16(nan))), bits >> 31 != 0);
  }
}

TEST(Float16Test, RowsAreConvertedAsTheirElementsAre) {
  const std::vector<float> floats = HardFloats();
  std::vector<std::uint16_t> f16(floats.size());
  std::vector<std::uint16_t> bf16(floats.size());
  FloatToF16(floats, f16);
  FloatToBf16(floats, bf16);
  for (std::size_t i = 0; i < floats.size(); ++i) {
    ASSERT_EQ(f16[i], FloatToF16(floats[i])) << std::hex << Bits(floats[i]);
    ASSERT_EQ(bf16[i], FloatToBf16(floats[i])) << std::hex << Bits(floats[i]);
  }
  std::vector<std::uint16_t> halves(kAllHalves);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    halves[i] = static_cast<std::uint16_t>(i);
  }
  std::vector<float> from_f16(kAllHalves);
  std::vector<float> from_bf16(kAllHalves);
  F16ToFloat(halves, from_f16);
  Bf16ToFloat(halves, from_bf16);
  for (std::size_t i = 0; i < halves.size(); ++i) {
    ASSERT_EQ(Bits(from_f16[i]), Bits(F16ToFloat(halves[i]))) << i;
    ASSERT_EQ(Bits(from_bf16[i]), Bits(Bf16ToFloat(halves[i]))) << i;
  }
}

TEST(Float16Test, ShortRowsAreConvertedToTheLastElement) {
  for (std::size_t size = 0; size < 20; ++size) {
    const std::vector<float> ones(size, 1.0F);
    std::vector<std::uint16_t> halves(size);
    FloatToF16(ones, halves);
    EXPECT_EQ(halves, std::vector<std::uint16_t>(size, 0x3C00));
    std::vector<float> back(size);
    F16ToFloat(halves, back);
    EXPECT_EQ(back, ones);
  }
}

}  // namespace
}  // namespace yangtuo
