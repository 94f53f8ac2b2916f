#include "inference_core/sampling/logits_processors.h"

#include <limits>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatEq;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<TokenId> Ids(const std::vector<Candidate>& candidates) {
  std::vector<TokenId> ids;
  for (const Candidate& candidate : candidates) {
    ids.push_back(candidate.id);
  }
  return ids;
}

std::vector<Candidate> Weighted(std::vector<double> weights) {
  std::vector<Candidate> candidates;
  for (const double weight : weights) {
    candidates.push_back({.id = static_cast<TokenId>(candidates.size()), .weight = weight});
  }
  return candidates;
}

TEST(AddLogitBiasTest, AddsToTheNamedIdsOnly) {
  std::vector<float> logits = {1, 2, 3};
  AddLogitBias(logits, std::vector<std::pair<TokenId, float>>{{1, 10.0F}, {2, -1.0F}, {7, 5.0F}});
  EXPECT_THAT(logits, ElementsAre(1, 12, 2));
}

TEST(PenalizeRepetitionTest, DividesPositiveAndMultipliesNegativeLogits) {
  std::vector<float> logits = {4, -4, 4, -4, 0};
  PenalizeRepetition(logits, std::vector<SeenToken>{{0, 0}, {1, 3}, {4, 1}, {-1, 1}, {5, 1}}, 2.0F);
  EXPECT_THAT(logits, ElementsAre(2, -8, 4, -4, 0));
}

TEST(PenalizeAnswerTest, LooksAtTheAnswerOnlyAndCountsOccurrences) {
  std::vector<float> logits = {5, 5, 5};
  PenalizeAnswer(logits, std::vector<SeenToken>{{0, 0}, {1, 1}, {2, 3}}, 0.5F, 0.25F);
  EXPECT_THAT(logits, ElementsAre(FloatEq(5), FloatEq(4.25F), FloatEq(3.75F)));
}

TEST(MaskTokensTest, MakesThemImpossible) {
  std::vector<float> logits = {5, 6};
  MaskTokens(logits, std::vector<TokenId>{1, 9});
  EXPECT_THAT(logits, ElementsAre(5, -kInfinity));
}

TEST(SelectTopTest, OrdersByLogitAndThenById) {
  const std::vector<float> logits = {1, 3, 2, 3, kNan, -kInfinity, 3};
  EXPECT_THAT(Ids(SelectTop(logits, 2, 1.0F)), ElementsAre(1, 3));
  EXPECT_THAT(Ids(SelectTop(logits, 4, 1.0F)), ElementsAre(1, 3, 6, 2));
  EXPECT_THAT(Ids(SelectTop(logits, 100, 1.0F)), ElementsAre(1, 3, 6, 2, 0));
  EXPECT_THAT(Ids(SelectTop(logits, 0, 1.0F)), ElementsAre());
}

TEST(SelectTopTest, KeepsTheLowestIdsOfManyEqualLogits) {
  const std::vector<float> flat(1000, 1.0F);
  EXPECT_THAT(Ids(SelectTop(flat, 3, 1.0F)), ElementsAre(0, 1, 2));
  std::vector<float> rising(1000);
  for (std::size_t i = 0; i < rising.size(); ++i) {
    rising[i] = static_cast<float>(i / 2);
  }
  EXPECT_THAT(Ids(SelectTop(rising, 3, 1.0F)), ElementsAre(998, 999, 996));
}

TEST(SelectTopTest, WeightsAreRelativeToTheBestAtTheTemperature) {
  const std::vector<Candidate> top = SelectTop(std::vector<float>{1, 3}, 2, 2.0F);
  EXPECT_DOUBLE_EQ(top[0].weight, 1.0);
  EXPECT_DOUBLE_EQ(top[1].weight, 0.36787944117144233);
}

TEST(KeepTopPTest, KeepsTheSmallestSetThatReachesTheSum) {
  std::vector<Candidate> candidates = Weighted({0.5, 0.25, 0.125, 0.125});
  EXPECT_TRUE(KeepTopP(candidates, 0.75F, 1.0));
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1)) << "reached exactly";
  candidates = Weighted({0.5, 0.25, 0.125, 0.125});
  EXPECT_TRUE(KeepTopP(candidates, 0.76F, 1.0));
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1, 2));
}

TEST(KeepTopPTest, KeepsOneAtLeastAndSaysWhenThereAreTooFew) {
  std::vector<Candidate> candidates = Weighted({0.5, 0.25});
  EXPECT_FALSE(KeepTopP(candidates, 0.8F, 1.0));
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1));
  EXPECT_TRUE(KeepTopP(candidates, 1e-9F, 1.0));
  EXPECT_THAT(Ids(candidates), ElementsAre(0));
}

TEST(KeepMinPTest, DropsWhatIsRareBesideTheBest) {
  std::vector<Candidate> candidates = Weighted({1.0, 0.5, 0.25, 0.125});
  KeepMinP(candidates, 0.25F);
  EXPECT_THAT(Ids(candidates), ElementsAre(0, 1, 2));
  KeepMinP(candidates, 1.0F);
  EXPECT_THAT(Ids(candidates), ElementsAre(0));
}

TEST(SampleCandidateTest, InvertsTheCumulativeDistribution) {
  const std::vector<Candidate> candidates = Weighted({1.0, 0.5, 0.0, 0.5});
  EXPECT_EQ(SampleCandidate(candidates, 0.0), 0);
  EXPECT_EQ(SampleCandidate(candidates, 0.49), 0);
  EXPECT_EQ(SampleCandidate(candidates, 0.5), 1);
  EXPECT_EQ(SampleCandidate(candidates, 0.75), 3) << "a weight of 0 is never chosen";
  EXPECT_EQ(SampleCandidate(candidates, 0.9999999999999999), 3);
}

}  // namespace
}  // namespace yangtuo
