#include "tools/estimate/estimate.h"

#include <cmath>
#include <gtest/gtest.h>

namespace yangtuo {
namespace {

std::int64_t Parameters(const char* shape, std::int32_t vocab) {
  return ParameterCount(*ShapeNamed(shape, vocab));
}

TEST(ParameterCountTest, IsThePublishedOneForEveryFamily) {
  EXPECT_EQ(Parameters("7b", 32000), 6'738'415'616);
  EXPECT_EQ(Parameters("7b", 49953), 6'885'486'592);
  EXPECT_EQ(Parameters("7b", 49954), 6'885'494'784);
  EXPECT_EQ(Parameters("7b", 55296), 6'929'256'448);
  EXPECT_EQ(Parameters("13b", 32000), 13'015'864'320);
  EXPECT_EQ(Parameters("13b", 49953), 13'199'703'040);
  EXPECT_EQ(Parameters("13b", 55296), 13'254'415'360);
  EXPECT_EQ(Parameters("33b", 32000), 32'528'943'616);
  EXPECT_EQ(Parameters("33b", 49954), 32'767'947'264);
  EXPECT_EQ(Parameters("65b", 32000), 65'285'660'672);
  EXPECT_EQ(Parameters("1.3b", 55296), 1'262'522'368);
  EXPECT_FALSE(ShapeNamed("8b", 0).has_value());
}

// Chinese-LLaMA-Alpaca's table of sizes. Its cells mix GB and GiB, and blocks with f32 scales (5
// and 9 bits) with today's (4.5 and 8.5); each is met by the convention named beside it.
TEST(SizeTableTest, ReproducesThePublishedCells) {
  constexpr double kGB = 1e9;
  constexpr double kGiB = 1073741824.0;
  struct Cell {
    const char* shape;
    double bits;
    double unit;
    double published;
  };
  const Cell cells[] = {{"7b", 16, kGiB, 13},     {"13b", 16, kGiB, 24}, {"33b", 16, kGiB, 60},
                        {"65b", 16, kGiB, 120},   {"7b", 9, kGB, 7.8},   {"13b", 9, kGB, 14.9},
                        {"33b", 8.5, kGiB, 32.4}, {"7b", 4.5, kGB, 3.9}, {"13b", 5, kGiB, 7.8},
                        {"33b", 4.5, kGiB, 17.2}, {"65b", 5, kGiB, 38.5}};
  for (const Cell& cell : cells) {
    const double size =
        static_cast<double>(Parameters(cell.shape, 49954)) * cell.bits / 8 / cell.unit;
    EXPECT_NEAR(size / cell.published, 1, 0.03) << cell.shape << " at " << cell.bits << " bits";
  }
}

TEST(WeightBytesTest, FollowsTheTypesBits) {
  const LlamaConfig config = *ShapeNamed("7b", 0);
  const auto bits = [&config](DType type) {
    return 8.0 * static_cast<double>(WeightBytes(config, type)) /
           static_cast<double>(ParameterCount(config));
  };
  EXPECT_NEAR(bits(DType::kF16), 16, 0.01);
  EXPECT_NEAR(bits(DType::kQ8_0), 8.5, 0.01);
  EXPECT_NEAR(bits(DType::kInt8), 8, 0.02);
  EXPECT_NEAR(bits(DType::kQ4_0), 4.5, 0.01);
  EXPECT_NEAR(bits(DType::kInt4), 4.25, 0.02);
}

TEST(EstimateModelTest, AddsUpWhatAWorkerHolds) {
  const Estimate one = EstimateModel({.config = *ShapeNamed("7b", 0), .type = DType::kInt4});
  EXPECT_EQ(one.kv_per_token, 1 << 19);  // 2 x 32 layers x 4096 x 2 bytes
  EXPECT_EQ(one.kv, std::int64_t{2048} << 19);
  EXPECT_EQ(one.memory, one.weights + one.kv + one.activations + 150'000'000);
  const Estimate eight = EstimateModel(
      {.config = *ShapeNamed("7b", 0), .type = DType::kInt4, .context = 1000, .concurrency = 8});
  EXPECT_EQ(eight.kv, std::int64_t{8} * 1024 << 19);  // whole blocks of 32
}

TEST(KvBytesPerTokenTest, FollowsTheType) {
  const LlamaConfig config = *ShapeNamed("7b", 0);
  EXPECT_EQ(KvBytesPerToken(config, kernels::KvType::kF32), 1 << 20);
  // A scale for the keys and one for the values of every head.
  EXPECT_EQ(KvBytesPerToken(config, kernels::KvType::kInt8), (1 << 18) + 32 * 32 * 8);
}

}  // namespace
}  // namespace yangtuo
