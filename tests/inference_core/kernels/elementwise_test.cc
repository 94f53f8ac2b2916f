#include "inference_core/kernels/elementwise.h"

#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <vector>

#include "inference_core/kernels/lanes.h"
#include "inference_core/kernels/reference/reference.h"
#include "tests/inference_core/kernels/random_floats.h"

namespace yangtuo::kernels {
namespace {

Rows<const float> Dense(const std::vector<float>& values, std::int64_t cols) {
  return {values.data(), static_cast<std::int64_t>(values.size()) / cols, cols, cols};
}
Rows<float> Dense(std::vector<float>& values, std::int64_t cols) {
  return {values.data(), static_cast<std::int64_t>(values.size()) / cols, cols, cols};
}

TEST(ExpLanesTest, StaysWithinThreeTenMillionthsOfTheExponential) {
  for (float x = -86.9F; x < 88.0F; x += 0.0137F) {
    Lanes lanes = Lanes{} + x;
    ExpLanes(lanes);
    const double expected = std::exp(static_cast<double>(x));
    ASSERT_NEAR(lanes[0] / expected, 1.0, 3e-7) << x;
  }
}

TEST(ExpLanesTest, IsZeroFarBelowAndExactAtZeroAndKeepsNan) {
  Lanes lanes = {-88.0F, -1e30F, -INFINITY, 0.0F, NAN, 1000.0F};
  ExpLanes(lanes);
  EXPECT_EQ(lanes[0], 0.0F);
  EXPECT_EQ(lanes[1], 0.0F);
  EXPECT_EQ(lanes[2], 0.0F);
  EXPECT_EQ(lanes[3], 1.0F);
  EXPECT_TRUE(std::isnan(lanes[4]));
  EXPECT_GT(lanes[5], 1e38F);
}

class Widths : public ::testing::TestWithParam<std::int64_t> {};
INSTANTIATE_TEST_SUITE_P(Odd, Widths, ::testing::Values(1, 15, 16, 20, 64, 172, 4096));

TEST_P(Widths, RmsNormAgreesWithTheReference) {
  const std::int64_t cols = GetParam();
  const std::vector<float> x = RandomFloats(11 * cols, 1);
  const std::vector<float> weight = RandomFloats(cols, 2);
  std::vector<float> y(x.size());
  RmsNorm(Dense(x, cols), weight, 1e-5F, Dense(y, cols), 2);
  for (std::int64_t r = 0; r < 11; ++r) {
    const auto row =
        std::span(x).subspan(static_cast<std::size_t>(r * cols), static_cast<std::size_t>(cols));
    const std::vector<double> expected = reference::RmsNorm(row, weight, 1e-5);
    for (std::int64_t c = 0; c < cols; ++c) {
      ASSERT_NEAR(y[static_cast<std::size_t>(r * cols + c)], expected[static_cast<std::size_t>(c)],
                  5e-6)
          << r << " " << c;
    }
  }
}

TEST_P(Widths, SwiGluAgreesWithTheReference) {
  const std::int64_t ffn = GetParam();
  const std::vector<float> x = RandomFloats(9 * 2 * ffn, 3);
  std::vector<float> y(static_cast<std::size_t>(9 * ffn));
  SwiGlu(Dense(x, 2 * ffn), Dense(y, ffn), 2);
  for (std::int64_t r = 0; r < 9; ++r) {
    const std::vector<double> expected = reference::SwiGlu(std::span(x).subspan(
        static_cast<std::size_t>(r * 2 * ffn), static_cast<std::size_t>(2 * ffn)));
    for (std::int64_t c = 0; c < ffn; ++c) {
      ASSERT_NEAR(y[static_cast<std::size_t>(r * ffn + c)], expected[static_cast<std::size_t>(c)],
                  3e-6);
    }
  }
}

TEST_P(Widths, GiveARowTheSameBitsAloneAndAmongOthers) {
  const std::int64_t cols = GetParam();
  const std::vector<float> x = RandomFloats(20 * 2 * cols, 4);
  const std::vector<float> weight = RandomFloats(2 * cols, 5);
  std::vector<float> normed(x.size());
  std::vector<float> gated(x.size() / 2);
  RmsNorm(Dense(x, 2 * cols), weight, 1e-5F, Dense(normed, 2 * cols), 2);
  SwiGlu(Dense(x, 2 * cols), Dense(gated, cols), 2);
  for (std::int64_t r = 0; r < 20; ++r) {
    const Rows<const float> row(x.data() + r * 2 * cols, 1, 2 * cols, 2 * cols);
    std::vector<float> one(static_cast<std::size_t>(2 * cols));
    RmsNorm(row, weight, 1e-5F, Dense(one, 2 * cols), 1);
    ASSERT_TRUE(std::equal(one.begin(), one.end(), normed.begin() + r * 2 * cols));
    std::vector<float> half(static_cast<std::size_t>(cols));
    SwiGlu(row, Dense(half, cols), 1);
    ASSERT_TRUE(std::equal(half.begin(), half.end(), gated.begin() + r * cols));
  }
}

TEST(RopeTableTest, TurnsHeadsAsTheReferenceDoesAtFarPositionsToo) {
  constexpr std::int64_t kHeadDim = 20;
  const RopeTable table(
      {.positions = 5000, .head_dim = kHeadDim, .theta = 10000.0, .linear_factor = 1.0});
  const std::vector<float> original = RandomFloats(3 * 2 * kHeadDim, 6);
  std::vector<float> x = original;
  const std::vector<std::int32_t> positions = {0, 7, 4999};
  table.Apply(positions, Dense(x, 2 * kHeadDim), 2);
  for (std::size_t head = 0; head < 6; ++head) {
    const std::vector<double> expected = reference::Rope(
        std::span(original).subspan(head * kHeadDim, kHeadDim), positions[head / 2], 10000.0);
    for (std::size_t d = 0; d < kHeadDim; ++d) {
      ASSERT_NEAR(x[head * kHeadDim + d], expected[d], 1e-6);
    }
  }
}

TEST(RopeTableTest, DividesPositionsByTheLinearFactor) {
  const RopeTable table({.positions = 64, .head_dim = 8, .theta = 500.0, .linear_factor = 4.0});
  const std::vector<float> original = RandomFloats(8, 7);
  std::vector<float> x = original;
  const std::vector<std::int32_t> positions = {50};
  table.Apply(positions, Dense(x, 8), 1);
  const std::vector<double> expected = reference::Rope(original, 12.5, 500.0);
  for (std::size_t d = 0; d < 8; ++d) {
    EXPECT_NEAR(x[d], expected[d], 1e-6);
  }
}

TEST(AddTest, AddsIntoTheSecond) {
  const std::vector<float> x = {1, 2, 3, 4};
  std::vector<float> y = {10, 20, 30, 40};
  Add(Dense(x, 2), Dense(y, 2), 2);
  EXPECT_EQ(y, (std::vector<float>{11, 22, 33, 44}));
}

}  // namespace
}  // namespace yangtuo::kernels
