#include "inference_core/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "inference_core/sampling/philox.h"
#include "inference_core/sampling/softmax.h"

namespace yangtuo {
namespace {

// Candidates looked at first when top-p stands alone; real distributions rarely need more.
constexpr std::int64_t kFirstTopP = 128;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Keeps scale * difference finite or -infinity, never 0 * infinity.
float ScaleOf(float temperature) { return std::min(1.0F / temperature, 1e30F); }

// Log-probabilities of one position, before processors touch the logits.
struct Distribution {
  float largest = 0.0F;
  double log_sum = 0.0;
  std::vector<TokenLogprob> top;

  // 0 when the distribution is broken (no finite logit, or infinity): there is no sensible number.
  [[nodiscard]] float LogProbability(float logit) const {
    if (!std::isfinite(largest)) {
      return 0.0F;
    }
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(largest) - log_sum);
  }
};

Distribution Describe(std::span<const float> logits, std::int32_t top) {
  Distribution result;
  result.largest = LargestLogit(logits);
  if (!std::isfinite(result.largest)) {
    return result;
  }
  result.log_sum = std::log(SumOfWeights(logits, result.largest, 1.0F));
  for (const Candidate& best : SelectTop(logits, top, 1.0F)) {
    result.top.push_back({.id = best.id, .logprob = result.LogProbability(best.logit)});
  }
  return result;
}

bool UsesPenalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0F || params.presence_penalty != 0.0F ||
         params.frequency_penalty != 0.0F;
}

double TotalWeight(std::span<const Candidate> candidates) {
  double total = 0.0;
  for (const Candidate& candidate : candidates) {
    total += candidate.weight;
  }
  return total;
}

// The smallest set of the most probable tokens that reaches top_p of all, found without sorting
// the vocabulary unless the distribution is nearly flat.
std::vector<Candidate> SelectTopP(std::span<const float> logits, float largest,
                                  const SamplingParams& params) {
  const double total = SumOfWeights(logits, largest, ScaleOf(params.temperature));
  const auto vocab = static_cast<std::int64_t>(logits.size());
  for (std::int64_t count = kFirstTopP;; count *= 8) {
    std::vector<Candidate> candidates =
        SelectTop(logits, std::min(count, vocab), params.temperature);
    if (KeepTopP(candidates, params.top_p, total) || count >= vocab) {
      return candidates;
    }
  }
}

// How many logits min-p can possibly keep; a little more than it does, because KeepMinP decides.
std::int64_t CountAboveMinP(std::span<const float> logits, float largest,
                            const SamplingParams& params) {
  const double slack = 1e-3;
  const double distance = static_cast<double>(params.temperature) *
                          (std::log(static_cast<double>(params.min_p)) - slack);
  const auto bound = static_cast<float>(static_cast<double>(largest) + distance);
  return std::count_if(logits.begin(), logits.end(),
                       [bound](float logit) { return logit >= bound; });
}

// What top-k and top-p keep, best first; without either, all that min-p could keep.
std::vector<Candidate> SelectCandidates(std::span<const float> logits, float largest,
                                        const SamplingParams& params) {
  if (params.top_k > 0) {
    std::vector<Candidate> candidates = SelectTop(logits, params.top_k, params.temperature);
    if (params.top_p < 1.0F) {
      // All of them always reach the sum but for rounding, and then nothing is to be dropped.
      static_cast<void>(KeepTopP(candidates, params.top_p, TotalWeight(candidates)));
    }
    return candidates;
  }
  if (params.top_p < 1.0F) {
    return SelectTopP(logits, largest, params);
  }
  return SelectTop(logits, CountAboveMinP(logits, largest, params), params.temperature);
}

}  // namespace

SequenceSampler::SequenceSampler(SamplingParams params, const std::vector<TokenId>& prompt,
                                 const std::vector<TokenId>& emitted)
    : params_(std::move(params)),
      prompt_tokens_(static_cast<std::int32_t>(prompt.size())),
      answer_tokens_(static_cast<std::int32_t>(emitted.size())) {
  if (!UsesPenalties(params_)) {
    return;
  }
  for (const TokenId id : prompt) {
    Remember(id, 0);
  }
  for (const TokenId id : emitted) {
    Remember(id, 1);
  }
}

SampledToken SequenceSampler::Sample(std::span<float> logits) {
  SampledToken token;
  if (params_.logprobs.has_value()) {
    Distribution raw = Describe(logits, *params_.logprobs);
    const std::vector<float> before(logits.begin(), logits.end());
    Process(logits);
    token.id = Choose(logits);
    token.logprob = raw.LogProbability(before[static_cast<std::size_t>(token.id)]);
    token.top = std::move(raw.top);
  } else {
    Process(logits);
    token.id = Choose(logits);
  }
  ++answer_tokens_;
  if (UsesPenalties(params_)) {
    Remember(token.id, 1);
  }
  return token;
}

void SequenceSampler::Remember(TokenId id, std::int32_t answer_count) {
  const auto [entry, added] = seen_at_.try_emplace(id, seen_.size());
  if (added) {
    seen_.push_back({.id = id, .answer_count = answer_count});
  } else {
    seen_[entry->second].answer_count += answer_count;
  }
}

void SequenceSampler::Process(std::span<float> logits) const {
  AddLogitBias(logits, params_.logit_bias);
  if (params_.repetition_penalty != 1.0F) {
    PenalizeRepetition(logits, seen_, params_.repetition_penalty);
  }
  if (params_.presence_penalty != 0.0F || params_.frequency_penalty != 0.0F) {
    PenalizeAnswer(logits, seen_, params_.presence_penalty, params_.frequency_penalty);
  }
  if (answer_tokens_ < params_.min_new_tokens) {
    MaskTokens(logits, params_.end_ids);
  }
}

TokenId SequenceSampler::Choose(std::span<float> logits) const {
  if (params_.temperature <= 0.0F) {
    const TokenId best = ArgMax(logits);
    return logits[static_cast<std::size_t>(best)] > -kInfinity ? best
                                                               : LowestAllowed(logits.size());
  }
  const float largest = LargestLogit(logits);
  if (largest == -kInfinity) {
    return LowestAllowed(logits.size());
  }
  if (!std::isfinite(largest)) {
    return ArgMax(logits);
  }
  const double uniform =
      UniformAt(params_.seed, params_.choice, static_cast<std::uint32_t>(position()));
  const bool keeps_all = params_.top_k <= 0 && params_.top_p >= 1.0F && params_.min_p <= 0.0F;
  if (keeps_all) {
    return SampleByWeight(logits, largest, ScaleOf(params_.temperature), uniform);
  }
  std::vector<Candidate> candidates = SelectCandidates(logits, largest, params_);
  KeepMinP(candidates, params_.min_p);
  return SampleCandidate(candidates, uniform);
}

TokenId SequenceSampler::LowestAllowed(std::size_t vocab) const {
  if (answer_tokens_ >= params_.min_new_tokens) {
    return 0;
  }
  const std::vector<TokenId>& masked = params_.end_ids;
  for (TokenId id = 0; static_cast<std::size_t>(id) < vocab; ++id) {
    if (std::find(masked.begin(), masked.end(), id) == masked.end()) {
      return id;
    }
  }
  return 0;
}

SampledToken GivenToken(std::span<const float> logits, TokenId id, std::int32_t top) {
  Distribution raw = Describe(logits, top);
  SampledToken token;
  token.id = id;
  token.logprob = raw.LogProbability(logits[static_cast<std::size_t>(id)]);
  token.top = std::move(raw.top);
  return token;
}

}  // namespace yangtuo
