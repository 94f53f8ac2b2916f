// What structured output costs: compiling, the allowed tokens of a place that is new and of one
// that is known, and appending a token; with the pieces of real tokenizers.

#include <algorithm>
#include <benchmark/benchmark.h>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "inference_core/grammar/grammar.h"
#include "inference_core/grammar/grammar_matcher.h"
#include "inference_core/grammar/grammar_vocabulary.h"
#include "inference_core/tokenizer/vocabulary.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

constexpr char kSchema[] = R"({
  "type": "object",
  "properties": {
    "title": {"type": "string"},
    "summary": {"type": "string", "maxLength": 400},
    "date": {"type": "string", "format": "date"},
    "score": {"type": "number", "minimum": 0, "maximum": 1},
    "language": {"enum": ["zh", "en", "other"]},
    "people": {"type": "array", "items": {"type": "object",
      "properties": {"name": {"type": "string"}, "age": {"type": ["integer", "null"]}},
      "required": ["name", "age"], "additionalProperties": false}}
  },
  "required": ["title", "summary", "date", "score", "language", "people"],
  "additionalProperties": false
})";

constexpr char kGbnf[] = R"x(root ::= line+
line ::= speaker ": " [^\n]+ "\n"
speaker ::= "问" | "答" | name
name ::= [a-z] name | [a-z]
)x";

GrammarSpec SpecOf(std::int64_t kind) {
  switch (kind) {
    case 0:
      return {.kind = GrammarKind::kJsonObject};
    case 1:
      return {.kind = GrammarKind::kJsonSchema, .text = kSchema};
    case 2:
      return {.kind = GrammarKind::kRegex, .text = "([\\u4e00-\\u9fff]{5}[，。]){4}"};
    default:
      return {.kind = GrammarKind::kGbnf, .text = kGbnf};
  }
}

constexpr const char* kNames[] = {"json_object", "json_schema", "regex", "gbnf"};

// 0: 49,954 pieces; 1: 55,296. The demo model's where the shared data is missing.
std::shared_ptr<const GrammarVocabulary> LoadVocabulary(std::int64_t which) {
  const auto shared = SharedData(which == 0 ? "tokenizers/chinese-alpaca.model"
                                            : "tokenizers/chinese-llama-2.model");
  const auto path =
      shared.has_value() ? *shared : SourceFile("deploy/models/poem-alpaca/tokenizer.model");
  const auto pieces = Vocabulary::Parse(ReadTestFile(path), "tokenizer");
  std::vector<std::string> texts;
  for (std::int32_t id = 0; id < pieces->size(); ++id) {
    texts.push_back(pieces->piece(id).text);
  }
  return std::make_shared<const GrammarVocabulary>(std::move(texts));
}

// Tokens of random texts, as long as a model would make them, with what ends a text left out while
// something else is allowed.
std::vector<std::vector<TokenId>> RandomWalks(const std::shared_ptr<const Grammar>& grammar,
                                              const std::shared_ptr<const GrammarVocabulary>& v) {
  std::mt19937 random(1);
  std::vector<std::vector<TokenId>> walks(8);
  for (std::vector<TokenId>& walk : walks) {
    GrammarMatcher matcher(grammar, v);
    while (walk.size() < 256 && !matcher.MustEnd()) {
      const TokenBits& allowed = matcher.Allowed();
      std::vector<TokenId> ids;
      for (TokenId id = 0; id < allowed.size(); ++id) {
        if (allowed.Contains(id)) {
          ids.push_back(id);
        }
      }
      // Where all is allowed, a text goes on in whole pieces; a random byte seldom closes it.
      TokenId id = ids[random() % ids.size()];
      for (const char closing : {'"', '}', ']'}) {
        for (const TokenId other : ids) {
          if (v->text(other) == std::string(1, closing) && random() % 12 == 0) {
            id = other;
          }
        }
      }
      walk.push_back(id);
      if (!matcher.Accept(id).ok()) {
        break;
      }
    }
  }
  return walks;
}

void BM_Compile(benchmark::State& state) {
  const GrammarSpec spec = SpecOf(state.range(0));
  std::int32_t states = 0;
  for (auto _ : state) {
    states = (*CompileGrammar(spec))->automaton().num_states();
  }
  state.counters["states"] = states;
  state.SetLabel(kNames[state.range(0)]);
}
BENCHMARK(BM_Compile)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);

// Every place of random texts for the first time: a fresh grammar has no masks.
void BM_AllowedNew(benchmark::State& state) {
  const auto vocabulary = LoadVocabulary(state.range(1));
  const GrammarSpec spec = SpecOf(state.range(0));
  const auto walks = RandomWalks(*CompileGrammar(spec), vocabulary);
  std::vector<double> micros;
  std::int64_t tokens = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const auto grammar = *CompileGrammar(spec);
    state.ResumeTiming();
    for (const std::vector<TokenId>& walk : walks) {
      GrammarMatcher matcher(grammar, vocabulary);
      for (const TokenId id : walk) {
        const std::size_t known = grammar->masks().size();
        const auto begin = std::chrono::steady_clock::now();
        benchmark::DoNotOptimize(matcher.Allowed());
        const auto end = std::chrono::steady_clock::now();
        if (grammar->masks().size() > known) {
          micros.push_back(std::chrono::duration<double, std::micro>(end - begin).count());
        }
        (void)matcher.Accept(id);
        ++tokens;
      }
    }
  }
  std::sort(micros.begin(), micros.end());
  state.counters["new_median_us"] = micros[micros.size() / 2];
  state.counters["new_p99_us"] = micros[micros.size() * 99 / 100];
  state.counters["new_max_us"] = micros.back();
  state.counters["new_share"] = static_cast<double>(micros.size()) / static_cast<double>(tokens);
  state.SetLabel(kNames[state.range(0)] + std::string(", ") + std::to_string(vocabulary->size()) +
                 " pieces");
}
BENCHMARK(BM_AllowedNew)
    ->ArgsProduct({{0, 1, 2, 3}, {0, 1}})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(3);

// Places that are known: a look-up and an append for every token.
void BM_AllowedKnown(benchmark::State& state) {
  const auto vocabulary = LoadVocabulary(1);
  const auto grammar = *CompileGrammar(SpecOf(state.range(0)));
  const auto walks = RandomWalks(grammar, vocabulary);
  std::int64_t tokens = 0;
  for (auto _ : state) {
    for (const std::vector<TokenId>& walk : walks) {
      GrammarMatcher matcher(grammar, vocabulary);
      for (const TokenId id : walk) {
        benchmark::DoNotOptimize(matcher.Allowed());
        (void)matcher.Accept(id);
        ++tokens;
      }
    }
  }
  state.counters["tokens/s"] =
      benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsRate);
  state.SetLabel(kNames[state.range(0)]);
}
BENCHMARK(BM_AllowedKnown)->DenseRange(0, 3)->Unit(benchmark::kMillisecond);

void BM_VocabularyTrie(benchmark::State& state) {
  const auto vocabulary = LoadVocabulary(1);
  std::vector<std::string> texts;
  for (TokenId id = 0; id < vocabulary->size(); ++id) {
    texts.emplace_back(vocabulary->text(id));
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(GrammarVocabulary(texts));
  }
  state.counters["nodes"] = static_cast<double>(vocabulary->nodes().size());
}
BENCHMARK(BM_VocabularyTrie)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace yangtuo
