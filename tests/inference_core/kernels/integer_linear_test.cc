#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "inference_core/kernels/integer_kernels.h"
#include "inference_core/kernels/integer_rows.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/quick_int4.h"
#include "inference_core/quant/quant.h"
#include "tests/inference_core/kernels/random_floats.h"

namespace yangtuo::kernels {
namespace {

using ::testing::HasSubstr;

struct Case {
  MatmulType type;
  IntegerPath path;
  std::int64_t in;
  std::int64_t out;
};

std::string NameOf(const ::testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return std::string(c.type == MatmulType::kInt8 ? "int8_" : "int4_") +
         (c.path == IntegerPath::kPortable  ? "portable_"
          : c.path == IntegerPath::kAvx2    ? "avx2_"
          : c.path == IntegerPath::kAvxVnni ? "avx_vnni_"
                                            : "avx512_vnni_") +
         std::to_string(c.in) + "x" + std::to_string(c.out);
}
void PrintTo(const Case& c, std::ostream* out) {
  *out << NameOf(::testing::TestParamInfo<Case>(c, 0));
}

// A weight in its stored form, with the integers that it stands for.
struct Weight {
  std::vector<std::byte> bytes;
  std::vector<std::int32_t> multiples;  // [out, in]: q, or r * q
  std::vector<float> scales;            // [out]
  StoredMatrix stored;
};

Weight Quantized(const std::vector<float>& values, const Case& c) {
  const DType dtype = c.type == MatmulType::kInt8 ? DType::kInt8 : DType::kInt4;
  const auto row_bytes = static_cast<std::size_t>(RowBytes(dtype, c.in));
  const auto in = static_cast<std::size_t>(c.in);
  Weight weight;
  weight.bytes.resize(static_cast<std::size_t>(c.out) * row_bytes);
  for (std::size_t o = 0; o < static_cast<std::size_t>(c.out); ++o) {
    const std::span<std::byte> row = std::span(weight.bytes).subspan(o * row_bytes, row_bytes);
    const std::span<const float> x = std::span(values).subspan(o * in, in);
    std::vector<float> wide(in);
    EXPECT_TRUE(QuantizeRow(dtype, x, {}, row).ok());
    DequantizeRow(dtype, row, wide);
    weight.scales.push_back(dtype == DType::kInt8 ? SplitInt8Row(row).scale
                                                  : SplitInt4Row(row, c.in).scale);
    for (const float value : wide) {
      weight.multiples.push_back(
          static_cast<std::int32_t>(std::lround(value / weight.scales.back())));
    }
  }
  weight.stored = {.data = weight.bytes.data(), .dtype = dtype, .out = c.out, .in = c.in};
  return weight;
}

// The definition, in plain loops.
std::vector<float> Reference(const std::vector<float>& x, const Weight& weight, const Case& c) {
  std::vector<float> y;
  const auto in = static_cast<std::size_t>(c.in);
  for (std::size_t first = 0; first < x.size(); first += in) {
    float largest = 0.0F;
    for (std::size_t i = 0; i < in; ++i) {
      largest = std::max(largest, std::fabs(x[first + i]));
    }
    const float inverse = largest > 0.0F ? 127.0F / largest : 0.0F;
    for (std::size_t o = 0; o < static_cast<std::size_t>(c.out); ++o) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < in; ++i) {
        sum += std::lrint(x[first + i] * inverse) * weight.multiples[o * in + i];
      }
      y.push_back(static_cast<float>(sum) * weight.scales[o] * (largest / 127.0F));
    }
  }
  return y;
}

std::vector<float> RunRows(const Linear& linear, std::span<const float> x,
                           MatmulWorkspace& workspace) {
  const std::int64_t rows = static_cast<std::int64_t>(x.size()) / linear.in();
  std::vector<float> y(static_cast<std::size_t>(rows * linear.out()));
  const absl::Status status = linear.Run(ConstMatrix(x.data(), {rows, linear.in()}),
                                         Matrix(y.data(), {rows, linear.out()}), workspace);
  EXPECT_TRUE(status.ok()) << status;
  return y;
}

class IntegerLinears : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (KernelsOf(GetParam().path) == nullptr) {
      GTEST_SKIP() << "not on this CPU";
    }
  }
  [[nodiscard]] static MatmulWorkspace Workspace(int threads) {
    auto workspace = MatmulWorkspace::Create(
        {.type = GetParam().type, .integer_path = GetParam().path, .threads = threads});
    EXPECT_TRUE(workspace.ok()) << workspace.status();
    return *std::move(workspace);
  }
};

TEST_P(IntegerLinears, EqualTheDefinitionToTheBit) {
  const Case& c = GetParam();
  const Weight weight = Quantized(RandomFloats(c.in * c.out, 1), c);
  MatmulWorkspace workspace = Workspace(2);
  const auto linear = Linear::Pack({&weight.stored, 1}, workspace);
  ASSERT_TRUE(linear.ok()) << linear.status();
  for (const std::int64_t rows : {1, 2, 3, 4, 5, 8, 9, 13, 16, 17, 70}) {
    const std::vector<float> x = RandomFloats(rows * c.in, static_cast<std::uint32_t>(rows));
    ASSERT_EQ(RunRows(*linear, x, workspace), Reference(x, weight, c)) << rows << " rows";
  }
}

TEST_P(IntegerLinears, GiveARowTheSameBitsInEveryCall) {
  const Case& c = GetParam();
  const Weight weight = Quantized(RandomFloats(c.in * c.out, 2), c);
  MatmulWorkspace single = Workspace(1);
  MatmulWorkspace team = Workspace(2);
  const auto linear = Linear::Pack({&weight.stored, 1}, team);
  ASSERT_TRUE(linear.ok()) << linear.status();
  const std::int64_t most = c.path == IntegerPath::kPortable ? 37 : 512;
  const std::vector<float> x = RandomFloats(most * c.in, 3);
  const std::vector<float> expected = RunRows(*linear, x, team);
  for (std::int64_t rows = 1; rows < most; rows += 1 + rows / 5) {
    MatmulWorkspace& workspace = rows % 2 == 0 ? team : single;
    const std::int64_t first = most - rows;  // another place among the rows as well
    const auto part = std::span(x).subspan(static_cast<std::size_t>(first * c.in));
    const std::vector<float> y = RunRows(*linear, part, workspace);
    ASSERT_TRUE(std::equal(y.begin(), y.end(), expected.begin() + first * c.out))
        << rows << " rows";
  }
}

// The largest sums that 16 bits must hold on the way.
TEST_P(IntegerLinears, DoNotSaturateAtTheExtremes) {
  const Case& c = GetParam();
  for (const float sign : {1.0F, -1.0F}) {
    const Weight weight =
        Quantized(std::vector<float>(static_cast<std::size_t>(c.in * c.out), sign), c);
    MatmulWorkspace workspace = Workspace(1);
    const auto linear = Linear::Pack({&weight.stored, 1}, workspace);
    ASSERT_TRUE(linear.ok()) << linear.status();
    std::vector<float> x(static_cast<std::size_t>(6 * c.in), 3.0F);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] *= i / static_cast<std::size_t>(c.in) % 2 == 0 ? 1.0F : -1.0F;
    }
    EXPECT_EQ(RunRows(*linear, x, workspace), Reference(x, weight, c));
  }
}

TEST_P(IntegerLinears, TellOfValuesThatAreNoNumbersAndKeepZeros) {
  const Case& c = GetParam();
  const Weight weight = Quantized(RandomFloats(c.in * c.out, 5), c);
  MatmulWorkspace workspace = Workspace(1);
  const auto linear = Linear::Pack({&weight.stored, 1}, workspace);
  ASSERT_TRUE(linear.ok());
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const std::int64_t at : {std::int64_t{0}, c.in - 1}) {
      std::vector<float> x(static_cast<std::size_t>(2 * c.in), 0.0F);
      x[static_cast<std::size_t>(at)] = bad;
      const std::vector<float> y = RunRows(*linear, x, workspace);
      EXPECT_FALSE(std::isfinite(y[0])) << at;
      EXPECT_EQ(y[static_cast<std::size_t>(c.out)], 0.0F);
    }
  }
}

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const MatmulType type : {MatmulType::kInt8, MatmulType::kInt4}) {
    for (const IntegerPath path : {IntegerPath::kPortable, IntegerPath::kAvx2,
                                   IntegerPath::kAvxVnni, IntegerPath::kAvx512Vnni}) {
      cases.push_back({type, path, 1, 1});
      cases.push_back({type, path, 60, 33});
      cases.push_back({type, path, 172, 64});
      if (path != IntegerPath::kPortable) {
        cases.push_back({type, path, 256, 517});
        cases.push_back({type, path, 2080, 50});  // more than one chunk of groups
      }
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Odd, IntegerLinears, ::testing::ValuesIn(Cases()), NameOf);

TEST(IntegerLinearTest, QuantizesOtherTypesWhilePacking) {
  const Case c{MatmulType::kInt8, IntegerPath::kFastest, 96, 40};
  const std::vector<float> values = RandomFloats(c.in * c.out, 6);
  const Weight weight = Quantized(values, c);
  const StoredMatrix wide{.data = reinterpret_cast<const std::byte*>(values.data()),
                          .dtype = DType::kF32,
                          .out = c.out,
                          .in = c.in};
  auto workspace = MatmulWorkspace::Create({.type = c.type});
  ASSERT_TRUE(workspace.ok());
  const auto packed = Linear::Pack({&weight.stored, 1}, *workspace);
  const auto quantized = Linear::Pack({&wide, 1}, *workspace);
  ASSERT_TRUE(packed.ok() && quantized.ok());
  const std::vector<float> x = RandomFloats(3 * c.in, 7);
  EXPECT_EQ(RunRows(*packed, x, *workspace), RunRows(*quantized, x, *workspace));
}

TEST(IntegerLinearTest, TellsWhatQuantizingWhilePackingLost) {
  const Case c{MatmulType::kInt4, IntegerPath::kFastest, 96, 33};
  const std::vector<float> values = RandomFloats(c.in * c.out, 6);
  const StoredMatrix wide{.data = reinterpret_cast<const std::byte*>(values.data()),
                          .dtype = DType::kF32,
                          .out = c.out,
                          .in = c.in};
  auto workspace = MatmulWorkspace::Create({.type = c.type});
  ASSERT_TRUE(workspace.ok());
  const auto quantized = Linear::Pack({&wide, 1}, *workspace);
  ASSERT_TRUE(quantized.ok());
  PackingLoss expected;
  for (const std::int64_t row : {0, 16, 32}) {  // the first of every sixteen
    const std::span<const float> x(values.data() + row * c.in, static_cast<std::size_t>(c.in));
    std::vector<std::byte> bytes(static_cast<std::size_t>(RowBytes(DType::kInt4, c.in)));
    std::vector<float> y(x.size());
    QuickInt4Row(x, bytes);
    DequantizeRow(DType::kInt4, bytes, y);
    for (std::size_t i = 0; i < x.size(); ++i) {
      expected.square += std::pow(static_cast<double>(x[i]), 2);
      expected.squared_error += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
    }
  }
  EXPECT_DOUBLE_EQ(quantized->loss().relative(), expected.relative());
  EXPECT_GT(expected.relative(), 0.02);
  const Weight weight = Quantized(values, c);
  const auto stored = Linear::Pack({&weight.stored, 1}, *workspace);
  ASSERT_TRUE(stored.ok());
  EXPECT_EQ(stored->loss().square, 0.0);
  EXPECT_EQ(stored->loss().relative(), 0.0);
}

double SquaredError(std::span<const float> x, const std::vector<float>& y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
  }
  return sum;
}

TEST(QuickInt4Test, IsAlmostAsCloseAsTheFullSearchAndCloserThanAScaleForEachGroup) {
  const std::vector<float> x = RandomFloats(4096, 3);
  const auto through = [&](DType type, bool quick) {
    std::vector<std::byte> row(static_cast<std::size_t>(RowBytes(type, 4096)));
    if (quick) {
      QuickInt4Row(x, row);
    } else {
      EXPECT_TRUE(QuantizeRow(type, x, {}, row).ok());
    }
    std::vector<float> y(x.size());
    DequantizeRow(type, row, y);
    return SquaredError(x, y);
  };
  const double quick = through(DType::kInt4, true);
  EXPECT_LT(quick, through(DType::kInt4, false) * 1.10);
  EXPECT_LT(quick, through(DType::kQ4_0, false));
}

TEST(QuickInt4Test, KeepsMultipliersInRangeAndPadsTheLastGroup) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    std::vector<float> x = RandomFloats(333, seed);
    for (std::size_t i = 0; i < x.size(); ++i) {
      x[i] *= std::exp(static_cast<float>(i % 97) * 0.1F * static_cast<float>(seed % 3));
    }
    std::vector<std::byte> row(static_cast<std::size_t>(RowBytes(DType::kInt4, 333)));
    QuickInt4Row(x, row);
    const Int4Row parts = SplitInt4Row(row, 333);
    for (const std::byte r : parts.r) {
      ASSERT_LE(std::abs(static_cast<std::int8_t>(r)), 15);
    }
    // Columns 333 .. 351: the last group's 13 .. 31.
    ASSERT_EQ(parts.codes.back(), std::byte{0x88});
  }
}

TEST(QuickInt4Test, ZerosAndTinyNumbersStayHarmless) {
  for (const float value : {0.0F, 1e-44F, 1e-38F}) {
    const std::vector<float> x(40, value);
    std::vector<std::byte> row(static_cast<std::size_t>(RowBytes(DType::kInt4, 40)));
    QuickInt4Row(x, row);
    std::vector<float> y(40);
    DequantizeRow(DType::kInt4, row, y);
    for (const float found : y) {
      ASSERT_NEAR(found, value, 1e-37F);
    }
  }
}

TEST(IntegerLinearTest, ReadsRowsOfASourceThatHasThemNotInMemory) {
  const Case c{MatmulType::kInt8, IntegerPath::kFastest, 40, 50};
  const Weight weight = Quantized(RandomFloats(c.in * c.out, 8), c);
  StoredMatrix read = weight.stored;
  const std::int64_t row_bytes = RowBytes(read.dtype, read.in);
  read.data = nullptr;
  read.read = [&](std::int64_t first, std::int64_t count, std::span<std::byte> rows) {
    std::memcpy(rows.data(), weight.bytes.data() + first * row_bytes,
                static_cast<std::size_t>(count * row_bytes));
    return absl::OkStatus();
  };
  auto workspace = MatmulWorkspace::Create({.type = c.type, .threads = 2});
  ASSERT_TRUE(workspace.ok());
  const std::vector<StoredMatrix> both = {read, weight.stored};
  const auto linear = Linear::Pack(both, *workspace);
  ASSERT_TRUE(linear.ok()) << linear.status();
  const std::vector<float> y = RunRows(*linear, RandomFloats(c.in, 9), *workspace);
  EXPECT_TRUE(std::equal(y.begin(), y.begin() + 50, y.begin() + 50));

  read.read = [](std::int64_t, std::int64_t, std::span<std::byte>) {
    return absl::DataLossError("model.bin: too short");
  };
  EXPECT_THAT(Linear::Pack({&read, 1}, *workspace).status().ToString(), HasSubstr("too short"));
}

TEST(IntegerLinearTest, RefusesWeightsThatAreNoNumbersAndSumsThatMayOverflow) {
  std::vector<float> values(64, 1.0F);
  values[40] = std::numeric_limits<float>::quiet_NaN();
  StoredMatrix stored{.data = reinterpret_cast<const std::byte*>(values.data()),
                      .dtype = DType::kF32,
                      .out = 2,
                      .in = 32};
  auto workspace = MatmulWorkspace::Create({.type = MatmulType::kInt8});
  ASSERT_TRUE(workspace.ok());
  EXPECT_EQ(Linear::Pack({&stored, 1}, *workspace).status().code(), absl::StatusCode::kDataLoss);
  stored.in = 200'000;
  EXPECT_EQ(Linear::Pack({&stored, 1}, *workspace).status().code(),
            absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace yangtuo::kernels
