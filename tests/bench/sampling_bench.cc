// Cost of choosing one token, for the vocabularies of the supported models. Counter: tokens/s on
// one thread; a step of n decoding sequences samples n times.

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "inference_core/sampling/sampler.h"

namespace yangtuo {
namespace {

// Spread of a trained model's logits: most of the mass on a few dozen tokens.
std::vector<float> ModelLikeLogits(std::int64_t vocab) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, 2.5F);
  std::vector<float> logits(static_cast<std::size_t>(vocab));
  std::generate(logits.begin(), logits.end(), [&] { return normal(random); });
  for (std::size_t i = 0; i < 40; ++i) {
    logits[i * 13 % logits.size()] = 16.0F - 0.3F * static_cast<float>(i);
  }
  return logits;
}

void RunSampler(benchmark::State& state, const SamplingParams& params) {
  const std::vector<float> logits = ModelLikeLogits(state.range(0));
  std::vector<TokenId> prompt(1000);
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    prompt[i] = static_cast<TokenId>(i * 7 % logits.size());
  }
  SequenceSampler sampler(params, prompt, {});
  std::vector<float> scratch(logits.size());
  for (auto _ : state) {
    std::copy(logits.begin(), logits.end(), scratch.begin());
    benchmark::DoNotOptimize(sampler.Sample(scratch));
  }
  state.counters["tokens"] =
      benchmark::Counter(static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

SamplingParams Params(float temperature, std::int32_t top_k, float top_p, float min_p) {
  SamplingParams params;
  params.temperature = temperature;
  params.top_k = top_k;
  params.top_p = top_p;
  params.min_p = min_p;
  return params;
}

SamplingParams WithPenalties(SamplingParams params) {
  params.repetition_penalty = 1.1F;
  params.frequency_penalty = 0.1F;
  return params;
}

SamplingParams WithLogprobs(SamplingParams params) {
  params.logprobs = 5;
  return params;
}

void Vocabularies(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"vocab"})->Arg(32000)->Arg(49954)->Arg(55296)->Unit(benchmark::kMicrosecond);
}

BENCHMARK_CAPTURE(RunSampler, greedy, Params(0, 0, 1, 0))->Apply(Vocabularies);
BENCHMARK_CAPTURE(RunSampler, temperature, Params(0.8F, 0, 1, 0))->Apply(Vocabularies);
BENCHMARK_CAPTURE(RunSampler, top_k_40, Params(0.8F, 40, 1, 0))->Apply(Vocabularies);
BENCHMARK_CAPTURE(RunSampler, top_p_90, Params(0.8F, 0, 0.9F, 0))->Apply(Vocabularies);
BENCHMARK_CAPTURE(RunSampler, min_p_5, Params(0.8F, 0, 1, 0.05F))->Apply(Vocabularies);
BENCHMARK_CAPTURE(RunSampler, chat_defaults, WithPenalties(Params(0.2F, 40, 0.9F, 0)))
    ->Apply(Vocabularies);
BENCHMARK_CAPTURE(RunSampler, greedy_logprobs, WithLogprobs(Params(0, 0, 1, 0)))
    ->Apply(Vocabularies);

}  // namespace
}  // namespace yangtuo
