#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "inference_core/model/stage.h"

namespace yangtuo {

// One sequence as a test wants it: `new_tokens` sampled after the prompt, or embedded.
struct DriverRequest {
  SequenceTask task = SequenceTask::kGenerate;
  std::vector<TokenId> prompt;
  SamplingParams sampling;
  std::int32_t new_tokens = 8;
  bool prompt_logprobs = false;
};

struct DriverAnswer {
  std::vector<SampledToken> tokens;
  std::vector<SampledToken> prompt_logprobs;
  std::vector<float> embedding;
};

// How steps are cut: every step takes a random share of the unfinished sequences, each with a
// random number of rows up to `max_chunk`, and puts a sequence's KV blocks anywhere.
struct DriverSchedule {
  std::uint32_t seed = 1;
  std::int32_t max_chunk = 512;
  std::int32_t skip_percent = 0;     // chance that a sequence sits a step out
  std::int32_t preempt_percent = 0;  // chance, per step, that a sequence is closed and recomputed
};

// Runs all requests through `stage` and returns their answers in order. Throws std::runtime_error
// with the status of a step that fails.
std::vector<DriverAnswer> Drive(Stage& stage, std::span<const DriverRequest> requests,
                                const DriverSchedule& schedule);

// Bit for bit: ids, log-probabilities and alternatives.
[[nodiscard]] bool SameAnswer(const DriverAnswer& a, const DriverAnswer& b);

}  // namespace yangtuo
