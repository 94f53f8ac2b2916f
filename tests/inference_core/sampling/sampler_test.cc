#include "inference_core/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/sampling/philox.h"

namespace yangtuo {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TokenId SampleOnce(const SamplingParams& params, std::vector<float> logits,
                   std::vector<TokenId> prompt = {1}, std::vector<TokenId> emitted = {}) {
  SequenceSampler sampler(params, std::move(prompt), std::move(emitted));
  return sampler.Sample(logits).id;
}

SamplingParams Greedy() {
  SamplingParams params;
  params.temperature = 0.0F;
  return params;
}

// All ids that come out over many positions, with their frequencies.
std::map<TokenId, int> Frequencies(SamplingParams params, const std::vector<float>& logits,
                                   int draws) {
  std::map<TokenId, int> counts;
  for (int i = 0; i < draws; ++i) {
    params.seed = static_cast<std::uint64_t>(i);
    ++counts[SampleOnce(params, logits)];
  }
  return counts;
}

// The whole pipeline in double with a full sort, as Hugging Face's processors are defined.
class Oracle {
 public:
  Oracle(const SamplingParams& params, const std::vector<TokenId>& prompt,
         const std::vector<TokenId>& answer)
      : params_(params), prompt_(prompt), answer_(answer) {}

  [[nodiscard]] TokenId Choose(const std::vector<float>& logits) const {
    std::vector<double> scores(logits.begin(), logits.end());
    Process(scores);
    std::vector<std::pair<double, TokenId>> ranked;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      ranked.emplace_back(scores[i], static_cast<TokenId>(i));
    }
    const auto better = [](const auto& a, const auto& b) {
      return a.first != b.first ? a.first > b.first : a.second < b.second;
    };
    std::sort(ranked.begin(), ranked.end(), better);
    if (params_.temperature == 0.0F) {
      return ranked[0].second;
    }
    if (params_.top_k > 0 && static_cast<std::size_t>(params_.top_k) < ranked.size()) {
      ranked.resize(static_cast<std::size_t>(params_.top_k));
    }
    const double best = ranked[0].first;
    for (auto& [score, id] : ranked) {
      score = std::exp((score - best) / static_cast<double>(params_.temperature));
    }
    Filter(ranked);
    if (params_.top_k == 0 && params_.top_p == 1.0F && params_.min_p == 0.0F) {
      std::sort(ranked.begin(), ranked.end(),
                [](const auto& a, const auto& b) { return a.second < b.second; });
    }
    const double target = UniformAt(params_.seed, params_.choice,
                                    static_cast<std::uint32_t>(prompt_.size() + answer_.size())) *
                          Sum(ranked);
    double running = 0.0;
    for (const auto& [weight, id] : ranked) {
      running += weight;
      if (running > target) {
        return id;
      }
    }
    return ranked.back().second;
  }

 private:
  static double Sum(const std::vector<std::pair<double, TokenId>>& ranked) {
    double sum = 0.0;
    for (const auto& entry : ranked) {
      sum += entry.first;
    }
    return sum;
  }

  void Process(std::vector<double>& scores) const {
    const auto at = [&scores](TokenId id) -> double& {
      return scores[static_cast<std::size_t>(id)];
    };
    for (const auto& [id, bias] : params_.logit_bias) {
      at(id) += static_cast<double>(bias);
    }
    std::set<TokenId> seen(prompt_.begin(), prompt_.end());
    seen.insert(answer_.begin(), answer_.end());
    for (const TokenId id : seen) {
      const auto penalty = static_cast<double>(params_.repetition_penalty);
      at(id) = at(id) < 0 ? at(id) * penalty : at(id) / penalty;
    }
    for (const TokenId id : std::set<TokenId>(answer_.begin(), answer_.end())) {
      const auto count = static_cast<double>(std::count(answer_.begin(), answer_.end(), id));
      at(id) -= static_cast<double>(params_.presence_penalty) +
                static_cast<double>(params_.frequency_penalty) * count;
    }
    if (static_cast<std::int32_t>(answer_.size()) < params_.min_new_tokens) {
      for (const TokenId id : params_.end_ids) {
        at(id) = -std::numeric_limits<double>::infinity();
      }
    }
  }

  void Filter(std::vector<std::pair<double, TokenId>>& ranked) const {
    const double total = Sum(ranked);
    double before = 0.0;
    std::size_t kept = 0;
    while (kept < ranked.size() &&
           (kept == 0 || before < static_cast<double>(params_.top_p) * total)) {
      before += ranked[kept++].first;
    }
    if (params_.top_p < 1.0F) {
      ranked.resize(kept);
    }
    std::erase_if(ranked, [this](const auto& entry) {
      return entry.first < static_cast<double>(params_.min_p);
    });
  }

  const SamplingParams& params_;
  const std::vector<TokenId>& prompt_;
  const std::vector<TokenId>& answer_;
};

class SamplerOracleTest : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(SamplerOracleTest, WholeAnswersAgreeWithAFullSortInDouble) {
  std::mt19937 random(GetParam());
  const auto between = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  const auto one_of = [&](std::vector<float> values) {
    return values[static_cast<std::size_t>(between(0, static_cast<int>(values.size()) - 1))];
  };
  const int vocab = between(2, 3000);
  SamplingParams params;
  params.temperature = one_of({0.0F, 0.3F, 0.7F, 1.0F, 1.7F});
  params.top_k = between(0, 1) * between(0, 300);
  params.top_p = one_of({1.0F, 0.95F, 0.9F, 0.4F, 0.999F});
  params.min_p = one_of({0.0F, 0.02F, 0.3F});
  params.repetition_penalty = one_of({1.0F, 1.1F, 1.5F});
  params.presence_penalty = one_of({0.0F, 0.5F, -0.5F});
  params.frequency_penalty = one_of({0.0F, 0.25F});
  params.seed = random();
  params.choice = static_cast<std::uint32_t>(between(0, 3));
  params.min_new_tokens = between(0, 8);
  params.end_ids = {between(0, vocab - 1)};
  params.logit_bias = {{between(0, vocab - 1), one_of({5.0F, -5.0F})}};
  std::vector<TokenId> prompt(static_cast<std::size_t>(between(1, 40)));
  std::generate(prompt.begin(), prompt.end(), [&] { return between(0, vocab - 1); });

  SequenceSampler sampler(params, prompt, {});
  std::vector<TokenId> answer;
  std::normal_distribution<float> normal(0.0F, one_of({0.01F, 1.0F, 4.0F}));
  for (int step = 0; step < 25; ++step) {
    std::vector<float> logits(static_cast<std::size_t>(vocab));
    std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
    const TokenId expected = Oracle(params, prompt, answer).Choose(logits);
    std::vector<float> scratch = logits;
    ASSERT_EQ(sampler.Sample(scratch).id, expected) << "step " << step;
    answer.push_back(expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SamplerOracleTest, ::testing::Range(0U, 150U));

TEST(SequenceSamplerTest, GreedyTakesTheLargestAndTheLowestIdOnTies) {
  EXPECT_EQ(SampleOnce(Greedy(), {1, 5, 2, 5}), 1);
}

TEST(SequenceSamplerTest, FrequenciesFollowTheDistribution) {
  const std::vector<float> logits = {std::log(0.4F), std::log(0.3F), std::log(0.2F),
                                     std::log(0.1F)};
  constexpr int kDraws = 20000;
  // Hand-worked: top_p 0.85 keeps three of four, top_k 2 two of four, min_p 0.6 those from 0.24.
  struct Case {
    const char* name;
    std::int32_t top_k;
    float top_p;
    float min_p;
    std::vector<double> expected;
    double limit;  // 99.9 % quantile of chi-square
  };
  for (const Case& c : {Case{"all", 0, 1.0F, 0.0F, {0.4, 0.3, 0.2, 0.1}, 16.27},
                        Case{"top_p", 0, 0.85F, 0.0F, {4.0 / 9, 3.0 / 9, 2.0 / 9}, 13.82},
                        Case{"top_k", 2, 1.0F, 0.0F, {4.0 / 7, 3.0 / 7}, 10.83},
                        Case{"min_p", 0, 1.0F, 0.6F, {4.0 / 7, 3.0 / 7}, 10.83}}) {
    SamplingParams params;
    params.top_k = c.top_k;
    params.top_p = c.top_p;
    params.min_p = c.min_p;
    std::map<TokenId, int> counts = Frequencies(params, logits, kDraws);
    EXPECT_EQ(counts.size(), c.expected.size()) << c.name;
    double chi_square = 0.0;
    for (std::size_t i = 0; i < c.expected.size(); ++i) {
      const double expected = c.expected[i] * kDraws;
      const double difference = counts[static_cast<TokenId>(i)] - expected;
      chi_square += difference * difference / expected;
    }
    EXPECT_LT(chi_square, c.limit) << c.name;
  }
}

TEST(SequenceSamplerTest, TopPIsAppliedToWhatTopKLeft) {
  const std::vector<float> logits = {std::log(0.4F), std::log(0.3F), std::log(0.2F),
                                     std::log(0.1F)};
  SamplingParams params;
  params.top_k = 2;
  params.top_p = 0.55F;  // of 4/7 and 3/7 the first alone; of all four it would take two
  EXPECT_THAT(Frequencies(params, logits, 200), SizeIs(1));
}

TEST(SequenceSamplerTest, HighTemperatureFlattensAndTinyTemperatureIsGreedy) {
  SamplingParams params;
  params.temperature = 1e-30F;
  EXPECT_THAT(Frequencies(params, {1.0F, 1.001F, 0.0F}, 50), SizeIs(1));
  params.top_p = 0.9F;
  EXPECT_THAT(Frequencies(params, {1.0F, 1.001F, 0.0F}, 50), SizeIs(1));
  params = {};
  params.temperature = 100.0F;
  EXPECT_THAT(Frequencies(params, {10.0F, 0.0F, 5.0F}, 200), SizeIs(3));
}

TEST(SequenceSamplerTest, EndIsImpossibleBeforeTheMinimumAndPossibleFromThen) {
  SamplingParams params = Greedy();
  params.min_new_tokens = 2;
  params.end_ids = {0};
  EXPECT_EQ(SampleOnce(params, {9, 1, 2}, {1}, {}), 2);
  EXPECT_EQ(SampleOnce(params, {9, 1, 2}, {1}, {1}), 2);
  EXPECT_EQ(SampleOnce(params, {9, 1, 2}, {1}, {1, 1}), 0);
}

TEST(SequenceSamplerTest, ResumedSamplerGoesOnAsTheOneThatWasLeft) {
  SamplingParams params;
  params.repetition_penalty = 1.3F;
  params.frequency_penalty = 0.4F;
  params.top_p = 0.9F;
  params.seed = 77;
  const std::vector<float> logits = {1, 2, 1.5F, 0.5F, 1.8F, 2.1F};
  SequenceSampler whole(params, {0, 3}, {});
  std::vector<TokenId> answer;
  for (int i = 0; i < 30; ++i) {
    std::vector<float> scratch = logits;
    answer.push_back(whole.Sample(scratch).id);
  }
  for (std::size_t cut = 0; cut < answer.size(); ++cut) {
    const auto middle = answer.begin() + static_cast<std::ptrdiff_t>(cut);
    SequenceSampler resumed(params, {0, 3}, {answer.begin(), middle});
    std::vector<float> scratch = logits;
    ASSERT_EQ(resumed.Sample(scratch).id, answer[cut]) << cut;
  }
}

TEST(SequenceSamplerTest, ChoicesOfOneSeedDiffer) {
  const std::vector<float> flat(1000, 0.0F);
  std::set<TokenId> chosen;
  for (std::uint32_t choice = 0; choice < 8; ++choice) {
    SamplingParams params;
    params.choice = choice;
    chosen.insert(SampleOnce(params, flat));
  }
  EXPECT_GE(chosen.size(), 7U);
}

TEST(SequenceSamplerTest, LogprobsAreOfTheModelsOwnDistribution) {
  SamplingParams params = Greedy();
  params.logprobs = 2;
  params.logit_bias = {{3, 100.0F}};
  SequenceSampler sampler(params, {1}, {});
  std::vector<float> logits = {std::log(0.4F), std::log(0.3F), std::log(0.2F), std::log(0.1F)};
  const SampledToken token = sampler.Sample(logits);
  EXPECT_EQ(token.id, 3);
  EXPECT_NEAR(token.logprob, std::log(0.1), 1e-6);
  ASSERT_THAT(token.top, SizeIs(2));
  EXPECT_EQ(token.top[0].id, 0);
  EXPECT_NEAR(token.top[0].logprob, std::log(0.4), 1e-6);
  EXPECT_EQ(token.top[1].id, 1);
}

TEST(SequenceSamplerTest, ReportsNoLogprobsUnlessAskedAndTheChosenAloneForZero) {
  std::vector<float> logits = {1, 2};
  SequenceSampler silent(Greedy(), {1}, {});
  EXPECT_EQ(silent.Sample(logits).logprob, 0.0F);
  SamplingParams params = Greedy();
  params.logprobs = 0;
  SequenceSampler speaking(params, {1}, {});
  logits = {1, 2};
  const SampledToken token = speaking.Sample(logits);
  EXPECT_LT(token.logprob, 0.0F);
  EXPECT_THAT(token.top, IsEmpty());
}

TEST(SequenceSamplerTest, SurvivesLogitsWithoutAnyFiniteOne) {
  SamplingParams params;
  params.logprobs = 1;
  params.min_new_tokens = 5;
  params.end_ids = {0, 1};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(SampleOnce(params, {-kInfinity, -kInfinity, -kInfinity}), 2);
  EXPECT_EQ(SampleOnce(params, {nan, nan, nan}), 2);
  params.end_ids = {0, 1, 2};
  EXPECT_EQ(SampleOnce(params, {1, 2, 3}), 0) << "nothing is allowed, so it hardly matters";
  params = {};
  params.top_p = 0.5F;
  EXPECT_EQ(SampleOnce(params, {1, kInfinity, 2}), 1);
  EXPECT_EQ(SampleOnce(params, {-kInfinity, 3, nan}), 1);
}

TEST(GivenTokenTest, GivesTheLogprobOfATokenAndTheBestAlternatives) {
  const std::vector<float> logits = {std::log(0.4F), std::log(0.3F), std::log(0.2F),
                                     std::log(0.1F)};
  const SampledToken token = GivenToken(logits, 2, 1);
  EXPECT_EQ(token.id, 2);
  EXPECT_NEAR(token.logprob, std::log(0.2), 1e-6);
  ASSERT_THAT(token.top, SizeIs(1));
  EXPECT_EQ(token.top[0].id, 0);
}

TEST(GivenTokenTest, StaysExactWhenLogitsAreFarFromZero) {
  const SampledToken token = GivenToken(std::vector<float>{1000.0F, 1001.0F, -1000.0F}, 0, 0);
  EXPECT_NEAR(token.logprob, -1.3132616875, 1e-6);
  EXPECT_NEAR(GivenToken(std::vector<float>{0.0F, -500.0F}, 1, 0).logprob, -500.0F, 1e-3);
}

}  // namespace
}  // namespace yangtuo
