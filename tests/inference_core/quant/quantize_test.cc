#include <cmath>
#include <cstring>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/base/float16.h"
#include "tests/inference_core/quant/rows.h"

namespace yangtuo {
namespace {

using testing::HasSubstr;

constexpr DType kWritten[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0, DType::kQ8_0,
                              DType::kQ4_K, DType::kQ6_K, DType::kInt8, DType::kInt4};

TEST(DTypeNamedTest, KnowsEveryNameAndNoOther) {
  for (const DType type : kWritten) {
    EXPECT_EQ(DTypeNamed(NameOf(type)), type);
  }
  EXPECT_EQ(DTypeNamed("q5_k"), DType::kQ5_K);
  EXPECT_EQ(DTypeNamed("Q4_0"), std::nullopt);
  EXPECT_EQ(DTypeNamed(""), std::nullopt);
}

TEST(QuantizeRowTest, RoundsPlainTypesToNearestTiesToEven) {
  std::vector<float> x = GaussianRow(1031, 3);
  x[0] = 1.0F + 0x1p-11F;      // a tie in f16: down to 1
  x[1] = 1.0F + 3 * 0x1p-11F;  // a tie in f16: up
  x[2] = 65519.9F;
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16}) {
    const std::vector<float> y = Dequantized(type, Quantized(type, x), x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float expected = type == DType::kF32   ? x[i]
                             : type == DType::kF16 ? F16ToFloat(FloatToF16(x[i]))
                                                   : Bf16ToFloat(FloatToBf16(x[i]));
      ASSERT_EQ(y[i], expected) << NameOf(type) << " " << i;
    }
  }
}

struct Loss {
  DType type;
  double most;  // relative squared error
};

// Gaussian values: measured 0.99-1.01 times these, less than 3 % of slack.
TEST(QuantizeRowTest, LosesAsLittleOfGaussianRowsAsTheTypeAllows) {
  const std::vector<float> x = GaussianRow(16384, 5);
  for (const Loss& loss :
       {Loss{DType::kQ8_0, 3.3e-5}, Loss{DType::kInt8, 1e-4}, Loss{DType::kQ6_K, 3.6e-4},
        Loss{DType::kQ4_K, 5.5e-3}, Loss{DType::kInt4, 7.6e-3}, Loss{DType::kQ4_0, 8.4e-3}}) {
    const std::vector<float> y = Dequantized(loss.type, Quantized(loss.type, x), x.size());
    EXPECT_LT(RelativeError(x, y), loss.most) << NameOf(loss.type);
  }
}

TEST(QuantizeRowTest, ImportanceMovesTheErrorToColumnsThatCountLess) {
  const std::vector<float> x = GaussianRow(4096, 6);
  std::vector<float> importance(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    importance[i] = i % 3 == 0 ? 100.0F : 1.0F;
  }
  for (const DType type : {DType::kQ4_0, DType::kQ4_K, DType::kQ6_K, DType::kInt4}) {
    const auto plain = Dequantized(type, Quantized(type, x), x.size());
    const auto weighted = Dequantized(type, Quantized(type, x, importance), x.size());
    EXPECT_LT(RelativeError(x, weighted, importance), 0.95 * RelativeError(x, plain, importance))
        << NameOf(type);
    EXPECT_GT(RelativeError(x, weighted), RelativeError(x, plain)) << NameOf(type);
  }
}

TEST(QuantizeRowTest, ImportanceOfAnySizeOrNoneAtAllStillKeepsTheRow) {
  const std::vector<float> x = GaussianRow(512, 7);
  const std::vector<float> zero(x.size(), 0.0F);
  const std::vector<float> huge(x.size(), 1e38F);
  for (const DType type : {DType::kQ4_0, DType::kQ4_K, DType::kQ6_K, DType::kInt4}) {
    for (const std::span<const float> importance : {std::span(zero), std::span(huge)}) {
      const auto y = Dequantized(type, Quantized(type, x, importance), x.size());
      EXPECT_LT(RelativeError(x, y), 0.01) << NameOf(type);
    }
  }
}

TEST(QuantizeRowTest, KeepsZerosAndWhatIsAlreadyOnTheGrid) {
  for (const DType type : kWritten) {
    const std::vector<float> zeros(512, 0.0F);
    const std::vector<float> y = Dequantized(type, Quantized(type, zeros), zeros.size());
    EXPECT_TRUE(std::all_of(y.begin(), y.end(), [](float value) { return value == 0.0F; }))
        << NameOf(type);

    std::vector<float> grid(512);
    for (std::size_t i = 0; i < grid.size(); ++i) {
      grid[i] = 0.25F * (static_cast<float>(i * 7 % 16) - 8.0F);
    }
    const std::vector<float> kept = Dequantized(type, Quantized(type, grid), grid.size());
    EXPECT_LT(RelativeError(grid, kept), 1e-4) << NameOf(type);
  }
}

// Rows that lie at the ends of what floats can be: no NaN, nothing larger than what came in (but
// for rounding), and the sanitizers see no conversion that overflows.
TEST(QuantizeRowTest, TakesTinyAndLargeNumbers) {
  for (const float size : {1e-45F, 1e-40F, 1e-30F, 1e-8F, 1e4F}) {
    std::vector<float> x = GaussianRow(512, 8, 1.0F);
    for (float& value : x) {
      value *= size;
    }
    for (const DType type : kWritten) {
      if (size == 1e4F && type == DType::kF16) {
        continue;
      }
      const auto y = Dequantized(type, Quantized(type, x), x.size());
      for (const float value : y) {
        ASSERT_LE(std::fabs(value), 6.0F * size) << NameOf(type) << " " << size;
      }
    }
  }
}

TEST(QuantizeRowTest, Int4PadsTheLastGroup) {
  const std::vector<float> x = GaussianRow(172, 9);
  const std::vector<std::byte> row = Quantized(DType::kInt4, x);
  ASSERT_EQ(row.size(), 6 * 17 + 4);

  EXPECT_LT(RelativeError(x, Dequantized(DType::kInt4, row, x.size())), 0.01);
  std::vector<std::byte> longer(row);
  const std::vector<float> padded = Dequantized(DType::kInt4, longer, 192);
  for (std::size_t i = x.size(); i < padded.size(); ++i) {
    EXPECT_EQ(padded[i], 0.0F);
  }
}

TEST(QuantizeRowTest, Int4KeepsItsMultipliersAndCodesWithinAnInt8) {
  std::vector<float> x = GaussianRow(4096, 10);
  for (std::size_t i = 0; i < x.size(); i += 97) {
    x[i] *= 20.0F;
  }
  const std::vector<std::byte> row = Quantized(DType::kInt4, x);
  const std::size_t groups = x.size() / kInt4Group;
  for (std::size_t group = 0; group < groups; ++group) {
    const int multiplier = static_cast<std::int8_t>(row[groups * 16 + group]);
    EXPECT_LE(std::abs(multiplier), 15);
  }
}

TEST(QuantizeRowTest, RefusesWhatItCannotKeepAndNamesTheColumn) {
  std::vector<float> x(512, 0.1F);
  x[77] = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::byte> row(4 * x.size());
  for (const DType type : kWritten) {
    const auto bytes = static_cast<std::size_t>(RowBytes(type, 512));
    const absl::Status status = QuantizeRow(type, x, {}, std::span(row).first(bytes));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr("column 77: nan"));
  }
  x[77] = 65520.0F;
  EXPECT_THAT(std::string(QuantizeRow(DType::kF16, x, {}, std::span(row).first(1024)).message()),
              HasSubstr("column 77: 65520; f16 needs"));
}

TEST(QuantizeRowTest, RefusesTypesAndSizesThatItCannotWrite) {
  const std::vector<float> x(300, 0.1F);
  std::vector<std::byte> row(1200);
  EXPECT_THAT(std::string(QuantizeRow(DType::kQ5_K, x, {}, row).message()),
              HasSubstr("q5_k is read only"));
  EXPECT_THAT(std::string(QuantizeRow(DType::kQ4_K, x, {}, row).message()),
              HasSubstr("a row of 300 does not divide into q4_k's blocks of 256"));
  EXPECT_FALSE(CanQuantizeTo(DType::kQ5_K));
}

}  // namespace
}  // namespace yangtuo
