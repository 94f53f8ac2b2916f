#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "inference_core/sampling/logits_processors.h"
#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// Chooses the tokens of one sequence. Owned by the last stage of a model, one per open sequence;
// not thread-safe, but different samplers may run in different threads.
//
// A choice depends on the logits, the parameters, prompt and answer so far, and nothing else: the
// random number belongs to (seed, choice, absolute position). A sampler built from the same prompt
// with some answer tokens as `emitted` therefore goes on exactly as the one that chose them.
class SequenceSampler {
 public:
  SequenceSampler(SamplingParams params, const std::vector<TokenId>& prompt,
                  const std::vector<TokenId>& emitted);

  // The next token after `logits` [vocab], which are overwritten; appends it to the answer. NaN
  // never wins; without any finite logit the lowest id that is not masked is chosen.
  // Costs one pass over `logits` when greedy and a few otherwise.
  [[nodiscard]] SampledToken Sample(std::span<float> logits);

  // The position that the next token will have.
  [[nodiscard]] std::int32_t position() const { return prompt_tokens_ + answer_tokens_; }

 private:
  // Adds one occurrence to the ids that penalties look at.
  void Remember(TokenId id, std::int32_t answer_count);
  void Process(std::span<float> logits) const;
  [[nodiscard]] TokenId Choose(std::span<float> logits) const;
  [[nodiscard]] TokenId LowestAllowed(std::size_t vocab) const;

  SamplingParams params_;
  std::int32_t prompt_tokens_ = 0;
  std::int32_t answer_tokens_ = 0;
  std::vector<SeenToken> seen_;                       // distinct ids; empty without penalties
  std::unordered_map<TokenId, std::size_t> seen_at_;  // id -> index in seen_
};

// The log-probability of a token that is there already, with the `top` best alternatives.
[[nodiscard]] SampledToken GivenToken(std::span<const float> logits, TokenId id, std::int32_t top);

}  // namespace yangtuo
