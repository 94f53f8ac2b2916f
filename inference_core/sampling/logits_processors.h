#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// What penalties know about one id of a sequence.
struct SeenToken {
  TokenId id = 0;
  std::int32_t answer_count = 0;  // 0: in the prompt only
};

// The steps between logits and a choice, in the order of SamplingParams. Pure functions, [vocab]
// in place. Ids outside the vocabulary are ignored: the edge refuses them with a message.

void AddLogitBias(std::span<float> logits, std::span<const std::pair<TokenId, float>> bias);

// Divides positive and multiplies negative logits of every id in `seen`, once per id.
void PenalizeRepetition(std::span<float> logits, std::span<const SeenToken> seen, float penalty);

// Subtracts `presence` once and `frequency` per occurrence, for ids of the answer.
void PenalizeAnswer(std::span<float> logits, std::span<const SeenToken> seen, float presence,
                    float frequency);

// Makes `ids` impossible.
void MaskTokens(std::span<float> logits, std::span<const TokenId> ids);

// A token that may still be chosen. `weight` = exp((logit - largest logit) / temperature), so the
// best has 1.
struct Candidate {
  TokenId id = 0;
  float logit = 0.0F;
  double weight = 0.0;
};

// Every list below is ordered best first; equal logits by id, lower first.

// The `count` best of all. O(vocab) while `count` is small against it.
[[nodiscard]] std::vector<Candidate> SelectTop(std::span<const float> logits, std::int64_t count,
                                               float temperature);

// Shortens to the smallest prefix whose weights reach `top_p` of `total_weight`; keeps one at
// least. False when even all of them do not reach it.
[[nodiscard]] bool KeepTopP(std::vector<Candidate>& candidates, float top_p, double total_weight);

// Drops those with less than `min_p` times the probability of the best.
void KeepMinP(std::vector<Candidate>& candidates, float min_p);

// Inverse of the cumulative distribution at `uniform` in [0, 1). `candidates` is not empty.
[[nodiscard]] TokenId SampleCandidate(std::span<const Candidate> candidates, double uniform);

}  // namespace yangtuo
