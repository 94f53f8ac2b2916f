#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/sampling/philox.h"
#include "inference_core/sampling/sampler.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;

constexpr std::int32_t kVocab = 50;

std::vector<float> RandomLogits(std::uint32_t seed, std::int32_t vocab = kVocab) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, 2.0F);
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
  return logits;
}

// The probabilities that the processors leave, computed the slow way in double: every step over the
// whole vocabulary and fully sorted, as Hugging Face's processors and warpers are described.
std::vector<double> ExpectedProbabilities(const SamplingParams& params, std::vector<float> logits,
                                          const std::vector<TokenId>& prompt,
                                          const std::vector<TokenId>& answer) {
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  std::vector<double> x(logits.begin(), logits.end());
  const auto at = [&](TokenId id) -> double& { return x[static_cast<std::size_t>(id)]; };
  for (const auto& [id, bias] : params.logit_bias) {
    at(id) += bias;
  }
  std::set<TokenId> seen(prompt.begin(), prompt.end());
  seen.insert(answer.begin(), answer.end());
  for (const TokenId id : seen) {
    at(id) = at(id) > 0 ? at(id) / params.repetition_penalty : at(id) * params.repetition_penalty;
  }
  for (const TokenId id : std::set<TokenId>(answer.begin(), answer.end())) {
    at(id) -= params.presence_penalty;
    at(id) -= params.frequency_penalty *
              static_cast<double>(std::count(answer.begin(), answer.end(), id));
  }
  if (static_cast<std::int32_t>(answer.size()) < params.min_new_tokens) {
    for (const TokenId id : params.end_ids) {
      at(id) = kNever;
    }
  }
  for (double& v : x) {
    v /= params.temperature;
  }
  std::vector<TokenId> order(x.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return at(a) > at(b); });
  const auto softmax = [&] {
    const double largest = at(order.front());
    std::vector<double> p(x.size());
    std::transform(x.begin(), x.end(), p.begin(), [&](double v) { return std::exp(v - largest); });
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    std::for_each(p.begin(), p.end(), [&](double& v) { v /= sum; });
    return p;
  };
  if (params.top_k > 0) {
    for (std::size_t i = static_cast<std::size_t>(params.top_k); i < order.size(); ++i) {
      at(order[i]) = kNever;
    }
  }
  const std::vector<double> p = softmax();
  double before = 0;
  for (const TokenId id : order) {
    const double own = p[static_cast<std::size_t>(id)];
    if (before >= params.top_p) {
      at(id) = kNever;
    }
    before += own;
  }
  const std::vector<double> q = softmax();
  const double best = *std::max_element(q.begin(), q.end());
  for (std::size_t i = 0; i < q.size(); ++i) {
    if (q[i] < params.min_p * best) {
      x[i] = kNever;
    }
  }
  return softmax();
}

TEST(PhiloxTest, GivesThePublishedKnownAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U));
  constexpr std::uint32_t kOnes = 0xffffffffU;
  EXPECT_THAT(Philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
              ElementsAre(0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU));
  EXPECT_THAT(
      Philox4x32({0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U}, {0xa4093822U, 0x299f31d0U}),
      ElementsAre(0xd16cfe09U, 0x94fdccebU, 0x5001e420U, 0x24126ea1U));
}

TEST(PhiloxTest, NumbersAreUniformAndDifferByChoiceAndPosition) {
  std::vector<int> bins(20);
  constexpr int kDraws = 20000;
  for (std::uint32_t i = 0; i < kDraws; ++i) {
    const double u = UniformAt(7, 0, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++bins[static_cast<std::size_t>(u * 20)];
  }
  double chi_square = 0;
  for (const int count : bins) {
    chi_square += (count - kDraws / 20.0) * (count - kDraws / 20.0) / (kDraws / 20.0);
  }
  EXPECT_LT(chi_square, 43.8) << "19 degrees of freedom, p = 0.001";
  EXPECT_NE(UniformAt(7, 0, 1), UniformAt(7, 1, 1));
  EXPECT_NE(UniformAt(7, 0, 1), UniformAt(8, 0, 1));
}

struct Case {
  const char* name;
  SamplingParams params;
};

class DistributionTest : public ::testing::TestWithParam<Case> {};

TEST_P(DistributionTest, SamplesFollowTheProcessorsComputedInDouble) {
  const std::vector<TokenId> prompt = {3, 4, 4, 9};
  const std::vector<TokenId> answer = {4, 7, 7, 7, 11};
  const std::vector<float> logits = RandomLogits(5);
  const std::vector<double> expected =
      ExpectedProbabilities(GetParam().params, logits, prompt, answer);
  constexpr int kDraws = 20000;
  std::vector<int> counts(kVocab);
  for (int seed = 0; seed < kDraws; ++seed) {
    SamplingParams params = GetParam().params;
    params.seed = static_cast<std::uint64_t>(seed);
    SequenceSampler sampler(params, prompt, answer);
    std::vector<float> scratch = logits;
    ++counts[static_cast<std::size_t>(sampler.Sample(scratch).id)];
  }
  double chi_square = 0;
  int degrees = -1;
  for (std::size_t id = 0; id < counts.size(); ++id) {
    if (expected[id] == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id << " was filtered out";
      continue;
    }
    const double mean = expected[id] * kDraws;
    if (mean >= 5) {
      chi_square += (counts[id] - mean) * (counts[id] - mean) / mean;
      ++degrees;
    }
  }
  // Wilson and Hilferty's approximation of the 0.9999 quantile.
  const double d = std::max(degrees, 1);
  const double bound = d * std::pow(1 - 2 / (9 * d) + 3.72 * std::sqrt(2 / (9 * d)), 3);
  EXPECT_LT(chi_square, bound);
}

Case With(const char* name, const std::function<void(SamplingParams&)>& set) {
  Case result{name, {}};
  set(result.params);
  return result;
}

INSTANTIATE_TEST_SUITE_P(
    Parameters, DistributionTest,
    ::testing::Values(With("plain", [](SamplingParams&) {}),
                      With("cold", [](SamplingParams& p) { p.temperature = 0.5F; }),
                      With("hot", [](SamplingParams& p) { p.temperature = 3.0F; }),
                      With("top_k", [](SamplingParams& p) { p.top_k = 5; }),
                      With("top_p", [](SamplingParams& p) { p.top_p = 0.8F; }),
                      With("min_p", [](SamplingParams& p) { p.min_p = 0.1F; }),
                      With("top_k_and_p",
                           [](SamplingParams& p) {
                             p.top_k = 20;
                             p.top_p = 0.7F;
                             p.temperature = 1.5F;
                           }),
                      With("repetition", [](SamplingParams& p) { p.repetition_penalty = 1.5F; }),
                      With("answer_penalties",
                           [](SamplingParams& p) {
                             p.presence_penalty = 0.5F;
                             p.frequency_penalty = 0.7F;
                           }),
                      With("bias",
                           [](SamplingParams& p) {
                             p.logit_bias = {{2, 3.0F}, {5, -100.0F}};
                           }),
                      With("min_new_tokens",
                           [](SamplingParams& p) {
                             p.min_new_tokens = 6;
                             p.end_ids = {0, 1, 2};
                           }),
                      With("everything",
                           [](SamplingParams& p) {
                             p.temperature = 1.3F;
                             p.top_k = 30;
                             p.top_p = 0.9F;
                             p.min_p = 0.02F;
                             p.repetition_penalty = 1.2F;
                             p.presence_penalty = 0.3F;
                             p.frequency_penalty = -0.2F;
                             p.logit_bias = {{10, 1.0F}};
                           })),
    [](const auto& test) { return test.param.name; });

TEST(SequenceSamplerTest, TemperatureZeroTakesTheBestAndTheLowestIdOnTies) {
  SamplingParams params;
  params.temperature = 0;
  SequenceSampler sampler(params, {1}, {});
  std::vector<float> logits = {0.5F, 2.0F, 2.0F, -1.0F};
  EXPECT_EQ(sampler.Sample(logits).id, 1);
}

TEST(SequenceSamplerTest, GoesOnFromEmittedTokensExactlyAsTheOneThatChoseThem) {
  SamplingParams params;
  params.seed = 99;
  params.top_k = 20;
  params.repetition_penalty = 1.3F;
  params.frequency_penalty = 0.5F;
  params.min_new_tokens = 4;
  params.end_ids = {1};
  const auto step = [](SequenceSampler& sampler, std::uint32_t i) {
    std::vector<float> logits = RandomLogits(i);
    return sampler.Sample(logits).id;
  };
  SequenceSampler whole(params, {3, 4}, {});
  std::vector<TokenId> chosen;
  for (std::uint32_t i = 0; i < 30; ++i) {
    chosen.push_back(step(whole, i));
  }
  for (std::size_t cut = 0; cut < chosen.size(); ++cut) {
    SequenceSampler resumed(params, {3, 4},
                            {chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(cut)});
    EXPECT_EQ(step(resumed, static_cast<std::uint32_t>(cut)), chosen[cut]) << "after " << cut;
  }
}

TEST(SequenceSamplerTest, ReportsLogProbabilitiesOfTheModelNotOfTheProcessors) {
  SamplingParams params;
  params.temperature = 0;
  params.logprobs = 3;
  params.logit_bias = {{7, 100.0F}};
  const std::vector<float> logits = RandomLogits(1);
  SequenceSampler sampler(params, {1}, {});
  std::vector<float> scratch = logits;
  const SampledToken token = sampler.Sample(scratch);
  ASSERT_EQ(token.id, 7);
  double sum = 0;
  for (const float v : logits) {
    sum += std::exp(static_cast<double>(v));
  }
  EXPECT_NEAR(token.logprob, logits[7] - std::log(sum), 1e-5);
  ASSERT_EQ(token.top.size(), 3);
  EXPECT_EQ(token.top[0].id, std::max_element(logits.begin(), logits.end()) - logits.begin());
  EXPECT_GE(token.top[0].logprob, token.top[1].logprob);
  EXPECT_GE(token.top[1].logprob, token.top[2].logprob);
  const SampledToken given = GivenToken(logits, 7, 0);
  EXPECT_EQ(given.logprob, token.logprob);
  EXPECT_TRUE(given.top.empty());
}

TEST(SequenceSamplerTest, LargeVocabularyAgreesWithASortAtEveryTopK) {
  const std::vector<float> logits = RandomLogits(3, 55296);
  for (const std::int32_t k : {1, 2, 40, 1000}) {
    SamplingParams params;
    params.top_k = k;
    std::vector<float> sorted = logits;
    std::nth_element(sorted.begin(), sorted.begin() + (k - 1), sorted.end(), std::greater<>());
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      params.seed = seed;
      SequenceSampler sampler(params, {1}, {});
      std::vector<float> scratch = logits;
      const TokenId id = sampler.Sample(scratch).id;
      EXPECT_GE(logits[static_cast<std::size_t>(id)], sorted[static_cast<std::size_t>(k - 1)]);
    }
  }
}

}  // namespace
}  // namespace yangtuo
