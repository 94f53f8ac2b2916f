#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "inference_core/base/clock.h"
#include "tools/common/client.h"
#include "tools/common/sampling_settings.h"

namespace yangtuo {

enum class PromptKind {
  kAutomatic,  // a chat where the model has a template, else raw
  kRaw,        // completed as it is
  kChat,       // one user message in the model's template
};

struct GenerateOptions {
  ClientOptions client;
  std::string model;  // empty: the only one
  // "-": standard input; absent: standard input too, unless it is a terminal.
  std::optional<std::string> prompt;
  PromptKind kind = PromptKind::kAutomatic;
  std::string system;         // system message of a chat
  std::string chat_template;  // empty: the model's own
  SamplingSettings sampling;
  v1::Constraint constraint;  // of the answer; no kind: none
  std::optional<std::uint32_t> n;
  std::optional<std::uint32_t> logprobs;
  bool echo = false;
  bool stats = false;  // a line on standard error at the end
  bool json = false;   // every event as a line of JSON
  Duration timeout = std::chrono::minutes(10);
};

// `yangtuo generate`: returns the exit code.
int RunGenerate(const GenerateOptions& options);

// The request of the options and the prompt for a model that the cluster serves. INVALID_ARGUMENT
// for options that exclude each other with this model.
absl::StatusOr<v1::GenerateRequest> MakeGenerateRequest(const GenerateOptions& options,
                                                        const std::string& prompt,
                                                        const v1::Model& model);

}  // namespace yangtuo
