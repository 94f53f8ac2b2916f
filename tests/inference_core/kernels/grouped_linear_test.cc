#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iostream>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "inference_core/kernels/linear.h"
#include "inference_core/quant/quant.h"
#include "tests/inference_core/kernels/random_floats.h"

namespace yangtuo::kernels {
namespace {

constexpr std::int64_t kIn = 768;

constexpr DType kTypes[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                            DType::kQ3_K, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};
constexpr IntegerPath kPaths[] = {IntegerPath::kPortable, IntegerPath::kAvx2, IntegerPath::kAvxVnni,
                                  IntegerPath::kAvx512Vnni};

struct Stored {
  std::vector<std::byte> bytes;
  std::vector<float> values;  // what quant/ says that the bytes are
  StoredMatrix matrix;
};

// Every bit of every block by chance, but for f16 numbers, which are between 2^-8 and 2^-6 and of
// either sign: all codes and all steps occur.
Stored RandomBlocks(DType type, std::int64_t out, unsigned seed) {
  std::mt19937 random(seed);
  Stored stored;
  const auto row_bytes = static_cast<std::size_t>(RowBytes(type, kIn));
  stored.bytes.resize(static_cast<std::size_t>(out) * row_bytes);
  for (std::byte& byte : stored.bytes) {
    byte = static_cast<std::byte>(random() & 255U);
  }
  const auto block = static_cast<std::size_t>(LayoutOf(type).bytes);
  const auto set_half = [&](std::size_t at) {
    const auto half = static_cast<std::uint16_t>(0x1C00 + random() % 0x0800 + (random() % 2 << 15));
    std::memcpy(stored.bytes.data() + at, &half, sizeof(half));
  };
  for (std::size_t at = 0; at < stored.bytes.size(); at += block) {
    const bool last = type == DType::kQ3_K || type == DType::kQ6_K;
    set_half(last ? at + block - 2 : at);
    if (type == DType::kQ4_1 || type == DType::kQ5_1 || type == DType::kQ4_K ||
        type == DType::kQ5_K) {
      set_half(at + 2);
    }
  }
  stored.values.resize(static_cast<std::size_t>(out * kIn));
  for (std::size_t o = 0; o < static_cast<std::size_t>(out); ++o) {
    DequantizeRow(type, std::span(stored.bytes).subspan(o * row_bytes, row_bytes),
                  std::span(stored.values).subspan(o * kIn, kIn));
  }
  stored.matrix = {.data = stored.bytes.data(), .dtype = type, .out = out, .in = kIn};
  return stored;
}

struct Product {
  std::vector<float> y;
  bool possible = false;
};

Product Multiply(std::span<const StoredMatrix> parts, std::span<const float> x, std::int64_t rows,
                 IntegerPath path, int threads = 2) {
  Product product;
  auto workspace = MatmulWorkspace::Create(
      {.type = MatmulType::kGguf, .row_policy = {}, .integer_path = path, .threads = threads});
  if (!workspace.ok()) {
    EXPECT_TRUE(absl::IsUnimplemented(workspace.status()));
    return product;
  }
  const auto linear = Linear::Pack(parts, *workspace);
  EXPECT_TRUE(linear.ok()) << linear.status();
  product.possible = true;
  product.y.resize(static_cast<std::size_t>(rows * linear->out()));
  const absl::Status run = linear->Run(ConstMatrix(x.data(), {rows, linear->in()}),
                                       Matrix(product.y.data(), {rows, linear->out()}), *workspace);
  EXPECT_TRUE(run.ok()) << run;
  return product;
}

std::string TypeName(const ::testing::TestParamInfo<DType>& info) {
  return std::string(NameOf(info.param));
}

class GroupedLinears : public ::testing::TestWithParam<DType> {};

// Weights are the file's own numbers: what a product is off by is the rounding of activations, at
// most half a step of each group of 32, and that of float sums.
TEST_P(GroupedLinears, AgreesWithDoublesWithinTheRoundingOfActivations) {
  constexpr std::int64_t kOut = 37;
  constexpr std::int64_t kRows = 5;
  const Stored weight = RandomBlocks(GetParam(), kOut, 7);
  const std::vector<float> x = RandomFloats(kRows * kIn, 3);
  for (const IntegerPath path : kPaths) {
    const Product product = Multiply({&weight.matrix, 1}, x, kRows, path);
    if (!product.possible) {
      continue;
    }
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t o = 0; o < kOut; ++o) {
        double exact = 0.0;    // of x as it is
        double rounded = 0.0;  // of x rounded
        double most = 0.0;
        double size = 0.0;
        for (std::int64_t g = 0; g < kIn; g += 32) {
          const float* const group = x.data() + r * kIn + g;
          float largest = 0.0F;
          for (int k = 0; k < 32; ++k) {
            largest = std::max(largest, std::fabs(group[k]));
          }
          const float scale = largest / 127.0F;
          for (int k = 0; k < 32; ++k) {
            const double w = weight.values[static_cast<std::size_t>(o * kIn + g + k)];
            exact += w * double{group[k]};
            rounded += w * double{std::nearbyint(group[k] * (127.0F / largest))} * double{scale};
            most += std::fabs(w) * double{scale} * 0.5001;
            size += std::fabs(w) * double{largest};
          }
        }
        const double y = product.y[static_cast<std::size_t>(r * kOut + o)];
        EXPECT_NEAR(y, rounded, size * 2e-6);
        EXPECT_NEAR(y, exact, most + size * 2e-6);
      }
    }
  }
}

TEST_P(GroupedLinears, EveryPathRowCountAndTeamGivesTheSameBits) {
  constexpr std::int64_t kOut = 53;
  constexpr std::int64_t kRows = 21;
  const Stored weight = RandomBlocks(GetParam(), kOut, 11);
  const std::vector<float> x = RandomFloats(kRows * kIn, 5);
  const Product all = Multiply({&weight.matrix, 1}, x, kRows, IntegerPath::kPortable);
  for (const IntegerPath path : kPaths) {
    for (const std::int64_t rows : {1, 2, 3, 4, 5, 7, 8, 9, 13, 21}) {
      const Product some = Multiply({&weight.matrix, 1}, x, rows, path, rows % 2 == 0 ? 1 : 2);
      if (some.possible) {
        EXPECT_EQ(std::memcmp(some.y.data(), all.y.data(), some.y.size() * sizeof(float)), 0)
            << rows << " rows";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, GroupedLinears, ::testing::ValuesIn(kTypes), TypeName);

TEST(GroupedLinearTest, PartsKeepTheirOwnTypesWhereverATileEnds) {
  const Stored first = RandomBlocks(DType::kQ4_K, 19, 1);
  const Stored second = RandomBlocks(DType::kQ6_K, 33, 2);
  const std::vector<float> x = RandomFloats(3 * kIn, 8);
  const std::vector<StoredMatrix> parts = {first.matrix, second.matrix};
  const Product both = Multiply(parts, x, 3, IntegerPath::kFastest);
  const Product upper = Multiply({&first.matrix, 1}, x, 3, IntegerPath::kFastest);
  const Product lower = Multiply({&second.matrix, 1}, x, 3, IntegerPath::kFastest);
  for (std::size_t r = 0; r < 3; ++r) {
    EXPECT_EQ(std::memcmp(&both.y[r * 52], &upper.y[r * 19], 19 * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(&both.y[r * 52 + 19], &lower.y[r * 33], 33 * sizeof(float)), 0);
  }
}

TEST(GroupedLinearTest, OtherTypesBecomeQ8WithTheirLossSaid) {
  const std::vector<float> values = RandomFloats(40 * 172, 4);  // not whole groups
  const StoredMatrix plain{.data = reinterpret_cast<const std::byte*>(values.data()),
                           .dtype = DType::kF32,
                           .out = 40,
                           .in = 172};
  auto workspace = MatmulWorkspace::Create({.type = MatmulType::kGguf, .row_policy = {}});
  ASSERT_TRUE(workspace.ok()) << workspace.status();
  const auto linear = Linear::Pack({&plain, 1}, *workspace);
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_GT(linear->loss().relative(), 1e-3);
  EXPECT_LT(linear->loss().relative(), 8e-3);
  const std::vector<float> x = RandomFloats(172, 6);
  std::vector<float> y(40);
  ASSERT_TRUE(
      linear->Run(ConstMatrix(x.data(), {1, 172}), Matrix(y.data(), {1, 40}), *workspace).ok());
  // Weights and activations are rounded, each by at most half of a 127th of their groups' largest.
  double squares = 0.0;
  double errors = 0.0;
  for (std::size_t o = 0; o < 40; ++o) {
    double exact = 0.0;
    for (std::size_t k = 0; k < 172; ++k) {
      exact += double{values[o * 172 + k]} * double{x[k]};
    }
    squares += exact * exact;
    errors += (double{y[o]} - exact) * (double{y[o]} - exact);
  }
  EXPECT_LT(std::sqrt(errors / squares), 0.015);
  const Stored kept = RandomBlocks(DType::kQ6_K, 16, 3);
  const auto letter = Linear::Pack({&kept.matrix, 1}, *workspace);
  ASSERT_TRUE(letter.ok());
  EXPECT_EQ(letter->loss().square, 0.0);
}

// Root mean square of what products of `type` are off by, over that of the exact ones.
double ErrorOf(MatmulType type, const std::vector<float>& values, const std::vector<float>& x,
               std::int64_t in) {
  const auto out = static_cast<std::int64_t>(values.size()) / in;
  const auto rows = static_cast<std::int64_t>(x.size()) / in;
  const StoredMatrix plain{.data = reinterpret_cast<const std::byte*>(values.data()),
                           .dtype = DType::kF32,
                           .out = out,
                           .in = in};
  auto workspace = MatmulWorkspace::Create({.type = type, .row_policy = {}});
  const auto linear = Linear::Pack({&plain, 1}, *workspace);
  std::vector<float> y(static_cast<std::size_t>(rows * out));
  EXPECT_TRUE(
      linear->Run(ConstMatrix(x.data(), {rows, in}), Matrix(y.data(), {rows, out}), *workspace)
          .ok());
  double squares = 0.0;
  double errors = 0.0;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t o = 0; o < out; ++o) {
      double exact = 0.0;
      for (std::int64_t k = 0; k < in; ++k) {
        exact += double{values[static_cast<std::size_t>(o * in + k)]} *
                 double{x[static_cast<std::size_t>(r * in + k)]};
      }
      const double error = double{y[static_cast<std::size_t>(r * out + o)]} - exact;
      squares += exact * exact;
      errors += error * error;
    }
  }
  return std::sqrt(errors / squares);
}

// Inputs of down projections have a few channels that exceed the rest many times over. A scale for
// each row must span them, one for each group spoils their groups only. What they add to the
// product is left out (their weights are zero), so that errors are those of all other channels.
TEST(GroupedLinearTest, OutliersSpoilTheirGroupsOnly) {
  constexpr std::int64_t kWide = 2048;
  std::vector<float> values = RandomFloats(64 * kWide, 12);
  for (const float factor : {1.0F, 20.0F, 50.0F, 100.0F}) {
    std::vector<float> x = RandomFloats(8 * kWide, 13);
    for (const std::size_t channel : {100U, 700U, 1300U, 1900U}) {
      for (std::size_t o = 0; o < 64; ++o) {
        values[o * kWide + channel] = 0.0F;
      }
      for (std::size_t r = 0; r < 8; ++r) {
        x[r * kWide + channel] = x[r * kWide + channel] < 0.0F ? -3.0F * factor : 3.0F * factor;
      }
    }
    const double by_rows = ErrorOf(MatmulType::kInt8, values, x, kWide);
    const double by_groups = ErrorOf(MatmulType::kGguf, values, x, kWide);
    std::cout << "outliers of " << factor << ": relative error " << by_rows << " by rows, "
              << by_groups << " by groups\n";
    EXPECT_LT(by_groups, factor > 1.0F ? by_rows / 3.0 : by_rows);
  }
}

TEST(GroupedLinearTest, ARowThatIsNoNumberSpoilsItselfOnly) {
  const Stored weight = RandomBlocks(DType::kQ4_K, 20, 9);
  std::vector<float> x = RandomFloats(2 * kIn, 2);
  x[40] = std::numeric_limits<float>::infinity();
  for (const IntegerPath path : kPaths) {
    const Product product = Multiply({&weight.matrix, 1}, x, 2, path);
    if (product.possible) {
      EXPECT_FALSE(std::isfinite(product.y[0]));
      EXPECT_TRUE(std::isfinite(product.y[20]));
    }
  }
}

}  // namespace
}  // namespace yangtuo::kernels
