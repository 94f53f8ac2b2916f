#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace yangtuo::bench_serve {

// What is asked of a cluster, before any of it is sent. Lengths are log-normal, as those of shared
// chat logs (ShareGPT) about are: many short ones and a long tail.
struct PlanOptions {
  std::size_t requests = 100;
  // Poisson arrivals, so many a second on average; nothing: every request is due at once.
  std::optional<double> rate{};
  double prompt_tokens = 130;  // median, without the shared prefix
  double answer_tokens = 180;  // median
  // 1: the logarithms' standard deviation is 1.0 for prompts and 0.7 for answers. 0: all alike.
  double spread = 1;
  std::uint32_t shared_prefix = 0;  // tokens that begin every prompt
  std::uint32_t context_tokens = 4096;
  std::uint32_t vocabulary_size = 32000;
  std::uint64_t seed = 1;
};

struct PlannedRequest {
  double at_seconds = 0;  // since the beginning
  std::uint32_t prompt_tokens = 0;
  std::uint32_t answer_tokens = 0;
};

// The same for the same options. Answers are cut to half of the context, prompts to what is left.
std::vector<PlannedRequest> PlanLoad(const PlanOptions& options);

// The prompt of request `index`: BOS (1), the shared prefix, then random ids of its own.
std::vector<std::uint32_t> PromptIds(const PlanOptions& options, const PlannedRequest& request,
                                     std::size_t index);

}  // namespace yangtuo::bench_serve
