#include "inference_core/sampling/softmax.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> RandomLogits(std::size_t vocab, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 4.0F);
  std::vector<float> logits(vocab);
  for (float& logit : logits) {
    logit = normal(random);
  }
  return logits;
}

TEST(ArgMaxTest, TakesTheLowestIdOnTiesAndSkipsNan) {
  EXPECT_EQ(ArgMax(std::vector<float>{kNan, 1, 3, 3}), 2);
  EXPECT_EQ(ArgMax(std::vector<float>{-5}), 0);
  EXPECT_EQ(ArgMax(std::vector<float>{-kInfinity, -kInfinity}), 0);
  EXPECT_EQ(ArgMax(std::vector<float>{1, kInfinity, kInfinity}), 1);
}

TEST(ArgMaxTest, FindsTheLargestAtEveryPlaceOfEveryLength) {
  for (std::size_t vocab = 1; vocab < 70; ++vocab) {
    for (std::size_t best = 0; best < vocab; ++best) {
      std::vector<float> logits(vocab, -2.0F);
      logits[best] = -1.0F;
      ASSERT_EQ(ArgMax(logits), static_cast<TokenId>(best));
    }
  }
}

TEST(SumOfWeightsTest, FollowsTheExponentialOverItsWholeRange) {
  for (float x = 0.0F; x > -86.9F; x -= 0.01F) {
    const double expected = std::exp(static_cast<double>(x));
    ASSERT_NEAR(SumOfWeights(std::vector<float>{x}, 0.0F, 1.0F) / expected, 1.0, 3e-7) << x;
  }
  EXPECT_EQ(SumOfWeights(std::vector<float>{0.0F}, 0.0F, 1.0F), 1.0);
  EXPECT_EQ(SumOfWeights(std::vector<float>{-200.0F, -kInfinity}, 0.0F, 1.0F), 0.0);
}

TEST(SumOfWeightsTest, AgreesWithDoubleOnOddSizes) {
  for (const std::size_t vocab : {1U, 15U, 16U, 17U, 255U, 256U, 257U, 5003U}) {
    const std::vector<float> logits = RandomLogits(vocab, 3);
    const float largest = LargestLogit(logits);
    double expected = 0.0;
    for (const float logit : logits) {
      expected += std::exp((static_cast<double>(logit) - static_cast<double>(largest)) * 0.7);
    }
    EXPECT_NEAR(SumOfWeights(logits, largest, 0.7F) / expected, 1.0, 1e-6) << vocab;
  }
}

TEST(SampleByWeightTest, InvertsTheCumulativeDistributionInIdOrder) {
  for (const std::size_t vocab : {1U, 255U, 256U, 257U, 1000U}) {
    const std::vector<float> logits = RandomLogits(vocab, 9);
    const float largest = LargestLogit(logits);
    double total = 0.0;
    for (const float logit : logits) {
      total += std::exp(static_cast<double>(logit) - static_cast<double>(largest));
    }
    double before = 0.0;
    for (std::size_t i = 0; i < vocab; ++i) {
      const double share =
          std::exp(static_cast<double>(logits[i]) - static_cast<double>(largest)) / total;
      if (share > 1e-4) {  // the middle of its part of [0, 1)
        std::vector<float> scratch = logits;
        ASSERT_EQ(SampleByWeight(scratch, largest, 1.0F, before + share / 2),
                  static_cast<TokenId>(i));
      }
      before += share;
    }
  }
}

TEST(SampleByWeightTest, NeverChoosesTheImpossibleAtTheEnds) {
  std::vector<float> logits(600, -kInfinity);
  logits[300] = 1.0F;
  for (const double uniform : {0.0, 0.5, 0.9999999999999999}) {
    std::vector<float> scratch = logits;
    EXPECT_EQ(SampleByWeight(scratch, 1.0F, 1.0F, uniform), 300);
  }
}

}  // namespace
}  // namespace yangtuo
