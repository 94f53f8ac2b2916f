#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace yangtuo {

// A vocabulary index, 0..vocab-1. Wire formats carry it unsigned.
using TokenId = std::int32_t;

// How one choice's tokens are chosen. Plain values, validated at the edge that received them
// (ranges: proto/yangtuo/v1/sampling.proto). Processor order: logit bias, repetition penalty,
// presence and frequency penalties, minimum-length mask, temperature, top-k, top-p, min-p.
struct SamplingParams {
  float temperature = 1.0F;  // 0 is greedy
  std::int32_t top_k = 0;    // 0 keeps all
  float top_p = 1.0F;
  float min_p = 0.0F;
  float repetition_penalty = 1.0F;  // over prompt and answer
  float presence_penalty = 0.0F;    // over the answer only
  float frequency_penalty = 0.0F;   // over the answer only
  std::vector<std::pair<TokenId, float>> logit_bias;
  std::uint64_t seed = 0;
  std::uint32_t choice = 0;
  // Alternatives to report with every token; nullopt: no log-probabilities at all.
  std::optional<std::int32_t> logprobs;
  // `end_ids` cannot be chosen before this many tokens of the answer.
  std::int32_t min_new_tokens = 0;
  std::vector<TokenId> end_ids;
};

// A token with its natural log-probability under the model's own distribution (before processors).
struct TokenLogprob {
  TokenId id = 0;
  float logprob = 0.0F;
};

// One chosen (or given) token. `logprob` is 0 and `top` empty unless they were asked for.
struct SampledToken {
  TokenId id = 0;
  float logprob = 0.0F;
  std::vector<TokenLogprob> top;  // best first
};

}  // namespace yangtuo
