// The tokenizer's own costs: encoding by length (time a byte must not grow), decoding id by id.

#include <benchmark/benchmark.h>
#include <memory>
#include <string>

#include "inference_core/tokenizer/incremental_decoder.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

// A tokenizer of the shared data, with the demo model's as a stand-in.
std::unique_ptr<const Tokenizer> LoadTokenizer() {
  const auto shared = SharedData("tokenizers/chinese-llama-2.model");
  auto loaded =
      Tokenizer::Load(shared.has_value() ? *shared : SourceFile("deploy/models/poem-alpaca"));
  return loaded.ok() ? *std::move(loaded) : nullptr;
}

std::string Text(std::size_t num_bytes) {
  const std::string sentence =
      "人工智能是计算机科学、心理学、哲学等学科融合的交叉学科。The quick brown fox, 1999! ";
  std::string text;
  while (text.size() < num_bytes) {
    text += sentence;
  }
  text.resize(num_bytes);
  return text;
}

void BM_Encode(benchmark::State& state) {
  const auto tokenizer = LoadTokenizer();
  const std::string text = Text(static_cast<std::size_t>(state.range(0)));
  std::size_t num_tokens = 0;
  for (auto _ : state) {
    num_tokens += tokenizer->Encode(text)->size();
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * state.range(0));
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(num_tokens), benchmark::Counter::kIsRate);
}
BENCHMARK(BM_Encode)->ArgName("bytes")->RangeMultiplier(8)->Range(8, 2 << 20);

// One word without a break: the worst case of pair merging.
void BM_EncodeOneLongWord(benchmark::State& state) {
  const auto tokenizer = LoadTokenizer();
  const std::string text(static_cast<std::size_t>(state.range(0)), 'a');
  for (auto _ : state) {
    benchmark::DoNotOptimize(tokenizer->Encode(text));
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) * state.range(0));
}
BENCHMARK(BM_EncodeOneLongWord)->ArgName("bytes")->RangeMultiplier(8)->Range(1 << 12, 2 << 20);

void BM_DecodeIdById(benchmark::State& state) {
  const auto tokenizer = LoadTokenizer();
  const std::vector<std::int32_t> ids = *tokenizer->Encode(Text(1 << 16));
  for (auto _ : state) {
    IncrementalDecoder decoder(tokenizer->vocabulary());
    std::string delta;
    for (const std::int32_t id : ids) {
      delta.clear();
      benchmark::DoNotOptimize(decoder.Append(std::span(&id, 1), delta));
    }
  }
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * static_cast<double>(ids.size()),
                         benchmark::Counter::kIsRate);
}
BENCHMARK(BM_DecodeIdById);

}  // namespace
}  // namespace yangtuo
