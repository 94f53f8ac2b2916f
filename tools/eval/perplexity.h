#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/model/llama_stage.h"
#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

struct PerplexityOptions {
  StageOptions stage;               // model, adapters, weight type and threads
  std::filesystem::path tokenizer;  // empty: the model's own
  std::filesystem::path text;
  std::int32_t documents = 200;  // the first ones; 0: all
};

// How well a model foretells a text: exp(nll / tokens).
struct Perplexity {
  std::string weight_type;
  std::string numerics;
  std::int64_t documents = 0;
  std::int64_t tokens = 0;  // scored ones
  double nll = 0.0;         // sum of negative natural log-probabilities

  [[nodiscard]] double value() const;
};

// The documents of a text, which empty lines separate; at most `most`, 0: all.
[[nodiscard]] std::vector<std::string_view> SplitDocuments(std::string_view text,
                                                           std::int32_t most);

// How many bytes of the scored documents are done.
using TextProgress = std::function<void(std::int64_t bytes, std::int64_t of)>;

// Scores every document by itself: tokens [BOS] + document + [EOS], every token after the first.
// One that is longer than the context is cut into pieces of it, each scored after its first token.
absl::StatusOr<Perplexity> MeasurePerplexity(const PerplexityOptions& options,
                                             const TextProgress& on_progress);

}  // namespace yangtuo
