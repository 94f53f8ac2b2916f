#include "inference_core/kernels/integer_rows.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <gtest/gtest.h>
#include <vector>

#include "inference_core/tensor/dtype.h"
#include "tests/inference_core/kernels/random_floats.h"

namespace yangtuo::kernels {
namespace {

std::vector<std::byte> Int4Bytes(const std::vector<float>& x,
                                 const std::vector<float>& importance = {}) {
  const auto cols = static_cast<std::int64_t>(x.size());
  std::vector<std::byte> row(static_cast<std::size_t>(RowBytes(DType::kInt4, cols)));
  QuantizeInt4Row(x, importance, row);
  return row;
}

std::vector<float> ThroughInt4(const std::vector<float>& x,
                               const std::vector<float>& importance = {}) {
  std::vector<float> y(x.size());
  DequantizeInt4Row(Int4Bytes(x, importance), y);
  return y;
}

std::vector<float> ThroughInt8(const std::vector<float>& x) {
  const auto cols = static_cast<std::int64_t>(x.size());
  std::vector<std::byte> row(static_cast<std::size_t>(RowBytes(DType::kInt8, cols)));
  QuantizeInt8Row(x, row);
  std::vector<float> y(x.size());
  DequantizeInt8Row(row, y);
  return y;
}

double SquaredError(const std::vector<float>& x, const std::vector<float>& y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
  }
  return sum;
}

TEST(Int8RowTest, RoundsToTheNearestMultipleOfTheScale) {
  const std::vector<float> x = RandomFloats(517, 1);
  float largest = 0.0F;
  for (const float value : x) {
    largest = std::max(largest, std::fabs(value));
  }
  const std::vector<float> y = ThroughInt8(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_LE(std::fabs(x[i] - y[i]), largest / 127.0F * 0.5001F) << i;
  }
}

TEST(Int8RowTest, KeepsWhatIsInItAlready) {
  const std::vector<float> once = ThroughInt8(RandomFloats(64, 2));
  EXPECT_EQ(ThroughInt8(once), once);
}

TEST(IntegerRowsTest, ZerosAndTinyNumbersStayHarmless) {
  for (const float value : {0.0F, 1e-44F, 1e-38F}) {
    const std::vector<float> x(40, value);
    for (const std::vector<float>& y : {ThroughInt8(x), ThroughInt4(x)}) {
      for (const float found : y) {
        ASSERT_NEAR(found, value, 1e-37F);
      }
    }
  }
}

// The bytes are a format: codes q + 8, columns i and 16 + i in one byte, then a multiplier a group.
TEST(Int4RowTest, LaysOutCodesThenMultipliersThenScale) {
  std::vector<float> x(34, 0.0F);
  x[0] = -8.0F * 15.0F;
  x[16] = 7.0F * 15.0F;
  x[33] = 15.0F;
  const std::vector<std::byte> row = Int4Bytes(x);
  ASSERT_EQ(row.size(), 32U + 2U + 4U);
  const Int4Row parts = SplitInt4Row(row, 34);
  const auto r = static_cast<std::int8_t>(parts.r[0]);
  const int low = (std::to_integer<int>(parts.codes[0]) & 15) - 8;
  const int high = (std::to_integer<int>(parts.codes[0]) >> 4) - 8;
  EXPECT_FLOAT_EQ(static_cast<float>(low * r) * parts.scale, -120.0F);
  EXPECT_FLOAT_EQ(static_cast<float>(high * r) * parts.scale, 105.0F);
  EXPECT_EQ(parts.codes[1], std::byte{0x88});
  std::vector<float> y(34);
  DequantizeInt4Row(row, y);
  EXPECT_FLOAT_EQ(y[33], 15.0F);
}

TEST(Int4RowTest, KeepsMultipliersAndCodesInRange) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    std::vector<float> x = RandomFloats(333, seed);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] *= std::exp(static_cast<float>(i % 97) * 0.1F * static_cast<float>(seed % 3));
    }
    const std::vector<std::byte> row = Int4Bytes(x);
    for (const std::byte r : SplitInt4Row(row, 333).r) {
      ASSERT_LE(std::abs(static_cast<std::int8_t>(r)), 15);
    }
  }
}

// Each group with a scale of its own, its extreme at -8: what a search must not fall behind much
// with its coarser multipliers, and overtakes by choosing them well.
TEST(Int4RowTest, IsAsCloseAsFourBitsWithAScaleForEachGroup) {
  const std::vector<float> x = RandomFloats(4096, 3);
  std::vector<float> by_group(x.size());
  for (std::size_t first = 0; first < x.size(); first += 32) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first);
    const float extreme = *std::max_element(
        begin, begin + 32, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    const float scale = extreme / -8.0F;
    for (std::size_t i = first; i < first + 32; ++i) {
      by_group[i] = std::clamp(std::nearbyint(x[i] / scale), -8.0F, 7.0F) * scale;
    }
  }
  EXPECT_LT(SquaredError(x, ThroughInt4(x)), SquaredError(x, by_group) * 1.0);
}

TEST(Int4RowTest, SpendsItsErrorWhereItMattersLess) {
  const std::vector<float> x = RandomFloats(256, 4);
  std::vector<float> importance(x.size(), 0.01F);
  for (std::size_t i = 0; i < x.size(); i += 8) {
    importance[i] = 10.0F;
  }
  const auto weighted = [&](const std::vector<float>& y) {
    double sum = 0.0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum += static_cast<double>(importance[i]) * std::pow(static_cast<double>(x[i] - y[i]), 2);
    }
    return sum;
  };
  EXPECT_LT(weighted(ThroughInt4(x, importance)), weighted(ThroughInt4(x)) * 0.8);
}

}  // namespace
}  // namespace yangtuo::kernels
