#include "inference_core/checkpoint/lora_sums.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/base/float16.h"

namespace yangtuo {
namespace {

struct Case {
  std::int64_t rows;
  std::int64_t rank;
  std::int64_t cols;
};

class SumProductsTest : public ::testing::TestWithParam<Case> {};

// Every shape of panel and of group of rows, full and partly empty.
INSTANTIATE_TEST_SUITE_P(Shapes, SumProductsTest,
                         ::testing::Values(Case{1, 1, 1}, Case{4, 8, 8}, Case{5, 3, 9},
                                           Case{7, 64, 31}, Case{12, 16, 40}),
                         [](const auto& param) {
                           return std::to_string(param.param.rows) + "x" +
                                  std::to_string(param.param.rank) + "x" +
                                  std::to_string(param.param.cols);
                         });

TEST_P(SumProductsTest, AddsTheProductsInDoubleInTheOrderOfTheRank) {
  const auto [rows, rank, cols] = GetParam();
  std::mt19937 random(7);
  // Magnitudes far apart, so that another order of sums gives other bits.
  std::uniform_real_distribution<float> exponent(-12, 12);
  const auto draw = [&] {
    return std::ldexp(exponent(random), static_cast<int>(exponent(random)));
  };
  std::vector<double> left(static_cast<std::size_t>(rows * rank));
  for (double& value : left) {
    value = draw();
  }
  RightFactor right(rank, cols);
  std::vector<std::vector<float>> right_rows;
  for (std::int64_t k = 0; k < rank; ++k) {
    std::vector<float> row(static_cast<std::size_t>(cols));
    for (float& value : row) {
      value = draw();
    }
    right.SetRow(k, row);
    right_rows.push_back(row);
  }
  std::vector<double> sums(static_cast<std::size_t>(rows * cols), std::nan(""));
  SumProducts(left, right, sums);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < cols; ++j) {
      double expected = 0;
      for (std::int64_t k = 0; k < rank; ++k) {
        expected += left[static_cast<std::size_t>(i * rank + k)] *
                    double{right_rows[static_cast<std::size_t>(k)][static_cast<std::size_t>(j)]};
      }
      EXPECT_EQ(sums[static_cast<std::size_t>(i * cols + j)], expected) << i << ", " << j;
    }
  }
}

float Added(DType type, float weight, double scale, double sum) {
  std::vector<float> values = {weight};
  AddRounded(type, scale, std::vector<double>{sum}, values);
  return values[0];
}

// Between 1 and the next f16 (1 + 2^-10) lies the tie 1 + 2^-11. A sum a little above it must go
// up, though rounding to float first would land on the tie and go down to even.
TEST(AddRoundedTest, RoundsOnceAndNotThroughAFloat) {
  EXPECT_EQ(Added(DType::kF16, 1.0F, 1.0, 0x1p-11 + 0x1p-40), 1.0F + 0x1p-10F);
  EXPECT_EQ(Added(DType::kF16, 1.0F, 1.0, 0x1p-11), 1.0F);
  EXPECT_EQ(Added(DType::kF16, -1.0F, 1.0, -0x1p-11 - 0x1p-40), -1.0F - 0x1p-10F);
  EXPECT_EQ(Added(DType::kF16, 1.0F, 1.0, 0x3p-11 - 0x1p-40), 1.0F + 0x1p-10F);
  EXPECT_EQ(Added(DType::kBF16, 1.0F, 1.0, 0x1p-8 + 0x1p-40), 1.0F + 0x1p-7F);
  EXPECT_EQ(Added(DType::kF32, 1.0F, 1.0, 0x1p-24 + 0x1p-50), 1.0F + 0x1p-23F);
}

TEST(AddRoundedTest, MultipliesByTheScaleBeforeItAdds) {
  EXPECT_EQ(Added(DType::kF16, 0.5F, 4.0, 0.25), 1.5F);
  EXPECT_EQ(Added(DType::kF16, 0.0F, 2.0, 0x1p-25), 0x1p-24F) << "the smallest f16";
  EXPECT_EQ(Added(DType::kF16, 0.0F, 1.0, 0x1p-60), 0.0F);
}

// Every value between two neighbours of f16 goes to the nearer one.
TEST(AddRoundedTest, AgreesWithTheNearestOfAllNumbers) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> part(0, 1);
  for (std::uint16_t bits = 1; bits < 0x7BFF; bits = static_cast<std::uint16_t>(bits + 37)) {
    const double low = F16ToFloat(bits);
    const double high = F16ToFloat(static_cast<std::uint16_t>(bits + 1));
    const double exact = low + part(random) * (high - low);
    const double expected = exact - low < high - exact ? low : high;
    EXPECT_EQ(Added(DType::kF16, 0.0F, 1.0, exact), expected) << exact;
    EXPECT_EQ(Added(DType::kF16, 0.0F, -1.0, exact), -expected) << exact;
  }
}

TEST(AddRoundedTest, PointsAtTheFirstValueThatDoesNotFit) {
  std::vector<float> values(1000, 1.0F);
  std::vector<double> sums(1000, 0.0);
  EXPECT_EQ(AddRounded(DType::kF16, 1.0, sums, values), 1000U);
  sums[700] = 70000;
  sums[900] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(AddRounded(DType::kF16, 1.0, sums, values), 700U);
}

TEST(RoundValuesTest, RoundsAndPointsAtTheFirstValueThatDoesNotFit) {
  std::vector<float> values = {1.0F, 1.0F + 0x1p-11F, 1.0F + 0x3p-11F, 65519.0F};
  EXPECT_EQ(RoundValues(DType::kF16, values), 4U);
  EXPECT_EQ(values, (std::vector<float>{1.0F, 1.0F, 1.0F + 0x1p-9F, 65504.0F}));
  values[2] = 65520.0F;
  EXPECT_EQ(RoundValues(DType::kF16, values), 2U);
}

}  // namespace
}  // namespace yangtuo
