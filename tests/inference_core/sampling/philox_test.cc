#include "inference_core/sampling/philox.h"

#include <cstdint>
#include <set>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

// From kat_vectors of the authors' Random123 library.
TEST(PhiloxTest, GivesThePublishedVectors) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U}));
  EXPECT_EQ(
      Philox4x32({0xffffffffU, 0xffffffffU, 0xffffffffU, 0xffffffffU}, {0xffffffffU, 0xffffffffU}),
      (PhiloxCounter{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU}));
  EXPECT_EQ(
      Philox4x32({0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}, {0xa4093822U, 0x299f31d0U}),
      (PhiloxCounter{0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U}));
}

TEST(UniformAtTest, IsAFunctionOfSeedChoiceAndPosition) {
  std::set<double> distinct;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32}) {
    for (std::uint32_t choice = 0; choice < 3; ++choice) {
      for (std::uint32_t position = 0; position < 3; ++position) {
        EXPECT_EQ(UniformAt(seed, choice, position), UniformAt(seed, choice, position));
        distinct.insert(UniformAt(seed, choice, position));
      }
    }
  }
  EXPECT_EQ(distinct.size(), 27);
}

TEST(UniformAtTest, IsUniform) {
  constexpr int kBins = 64;
  constexpr int kDraws = 64000;
  int counts[kBins] = {};
  for (std::uint32_t position = 0; position < kDraws; ++position) {
    const double u = UniformAt(42, 7, position);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++counts[static_cast<int>(u * kBins)];
  }
  double chi_square = 0.0;
  for (const int count : counts) {
    const double expected = static_cast<double>(kDraws) / kBins;
    chi_square += (count - expected) * (count - expected) / expected;
  }
  EXPECT_LT(chi_square, 103.4) << "99.9 % quantile for 63 degrees of freedom";
}

}  // namespace
}  // namespace yangtuo
