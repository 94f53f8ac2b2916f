#include "tools/bench_serve/load_plan.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace yangtuo::bench_serve {
namespace {

constexpr double kPromptDeviation = 1.0;
constexpr double kAnswerDeviation = 0.7;
constexpr std::uint32_t kBos = 1;
// Below are the special tokens and bytes of LLaMA's vocabularies.
constexpr std::uint32_t kFirstText = 259;

double Uniform(std::mt19937_64& random) {
  return (static_cast<double>(random() >> 11) + 0.5) * 0x1p-53;
}

// Box and Muller; the standard library's distributions differ between libraries.
double Normal(std::mt19937_64& random) {
  const double radius = std::sqrt(-2 * std::log(Uniform(random)));
  return radius * std::cos(2 * M_PI * Uniform(random));
}

std::uint32_t Length(double median, double deviation, double normal, double most) {
  return static_cast<std::uint32_t>(
      std::clamp(std::round(median * std::exp(deviation * normal)), 1.0, std::max(1.0, most)));
}

}  // namespace

std::vector<PlannedRequest> PlanLoad(const PlanOptions& options) {
  std::mt19937_64 random(options.seed);
  std::vector<PlannedRequest> plan(options.requests);
  const double context = options.context_tokens;
  double at = 0;
  for (PlannedRequest& request : plan) {
    at += options.rate ? -std::log(Uniform(random)) / *options.rate : 0;
    request.at_seconds = at;
    const double prompt = Normal(random);
    const double answer = Normal(random);
    request.answer_tokens = Length(options.answer_tokens, kAnswerDeviation * options.spread, answer,
                                   std::floor(context / 2));
    const std::uint32_t own =
        Length(options.prompt_tokens, kPromptDeviation * options.spread, prompt, context);
    request.prompt_tokens =
        std::min(options.shared_prefix + own, options.context_tokens - request.answer_tokens);
  }
  return plan;
}

std::vector<std::uint32_t> PromptIds(const PlanOptions& options, const PlannedRequest& request,
                                     std::size_t index) {
  const std::uint32_t first = options.vocabulary_size > 2 * kFirstText ? kFirstText : kBos;
  const std::uint32_t choices = std::max(1U, options.vocabulary_size - first);
  std::mt19937_64 shared(options.seed);
  std::mt19937_64 own(options.seed * 0x9E3779B97F4A7C15U + index + 1);
  std::vector<std::uint32_t> ids(request.prompt_tokens, kBos);
  for (std::size_t i = 1; i < ids.size(); ++i) {
    std::mt19937_64& random = i < options.shared_prefix ? shared : own;
    ids[i] = first + static_cast<std::uint32_t>(random() % choices);
  }
  return ids;
}

}  // namespace yangtuo::bench_serve
