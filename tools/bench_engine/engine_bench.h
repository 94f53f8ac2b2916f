#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/model/llama_stage.h"

namespace yangtuo {

struct EngineBenchOptions {
  StageOptions stage;  // model, weight type, threads
  std::int32_t prompt_tokens = 512;
  std::int32_t decode_tokens = 32;  // of each sequence
  std::vector<std::int32_t> batches = {1, 8, 32, 64};
  std::vector<std::int32_t> contexts = {};  // of one sequence, apart from the other measures
  std::int32_t repeats = 3;                 // the best counts
};

struct DecodeSpeed {
  std::int32_t sequences = 0;
  double tokens_per_second = 0.0;  // of all together
};

// One sequence whose prompt is as long as this, in steps of `prompt_tokens`.
struct ContextSpeed {
  std::int32_t tokens = 0;
  std::int32_t decoded = 0;                // after them
  double prefill_tokens_per_second = 0.0;  // of the whole prompt
  double decode_tokens_per_second = 0.0;   // after it
};

struct EngineSpeed {
  std::string weight_type;
  std::string numerics;
  std::int32_t threads = 0;
  double load_seconds = 0.0;
  std::int64_t anonymous_bytes = 0;  // after loading
  std::int64_t weight_bytes = 0;     // that a step reads
  std::int64_t kv_token_bytes = 0;   // that it reads for each token that a sequence has
  std::int32_t prompt_tokens = 0;
  double prefill_tokens_per_second = 0.0;
  // Of the prompt when its first seven eighths are in the KV cache already.
  double prefill_seconds = 0.0;
  double cached_prefill_seconds = 0.0;
  std::vector<DecodeSpeed> decode;
  std::vector<ContextSpeed> contexts;
};

// Loads a model and drives it as the engine does: a prompt in one step, then sequences that decode
// together with greedy sampling, each after a prompt of 32 tokens. `on_progress` is told what is
// about to be measured.
absl::StatusOr<EngineSpeed> MeasureEngine(
    const EngineBenchOptions& options, const std::function<void(const std::string&)>& on_progress);

}  // namespace yangtuo
