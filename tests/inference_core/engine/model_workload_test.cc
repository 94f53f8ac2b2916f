// The engine over real models: tokens do not depend on reuse of KV blocks, eviction, preemption,
// other requests or shards, nor on where an answer was cut and resumed.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/engine/engine.h"
#include "inference_core/model/llama_stage.h"
#include "nlohmann/json.hpp"
#include "tests/inference_core/engine/collector.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

using testing::Collector;

struct Model {
  const char* name;
  std::filesystem::path path;
  WeightType weight_type;
  kernels::KvType kv_type;
};

std::vector<Model> Models() {
  std::vector<Model> models = {{"poem-alpaca", SourceFile("deploy/models/poem-alpaca"),
                                WeightType::kAuto, kernels::KvType::kBf16}};
  if (const auto stories = SharedData("weights/stories260K/hf-f32"); stories.has_value()) {
    models.push_back({"stories260K", *stories, WeightType::kF32, kernels::KvType::kInt8});
    models.push_back({"stories260K", *stories, WeightType::kF32, kernels::KvType::kF32});
    models.push_back({"stories260K", *stories, WeightType::kGguf, kernels::KvType::kBf16});
  }
  return models;
}

// Submits `request` with the first `cut` of `tokens` as resumed; they and what is delivered must be
// `tokens`.
SequenceOutcome GoOn(Engine& engine, EngineRequest request, const std::vector<TokenId>& tokens,
                     std::size_t cut) {
  request.resumed_ids.assign(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(cut));
  std::vector<TokenId> joined = request.resumed_ids;
  Collector sink;
  EXPECT_TRUE(engine.Submit(std::move(request), &sink).ok());
  SequenceOutcome outcome = sink.Wait();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  const std::vector<TokenId> delivered = sink.tokens();
  joined.insert(joined.end(), delivered.begin(), delivered.end());
  EXPECT_EQ(joined, tokens) << "cut at " << cut;
  return outcome;
}

constexpr TokenId kEnd = 2;

// Every byte is a token, as in LLaMA's vocabularies; others have no text.
std::shared_ptr<AnswerConstraints> ByteConstraints() {
  std::vector<std::string> texts(3);
  for (int byte = 0; byte < 256; ++byte) {
    texts.emplace_back(1, static_cast<char>(byte));
  }
  auto made = AnswerConstraints::Create(std::move(texts), {});
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

// The text of an answer in those tokens.
std::string TextOf(const std::vector<TokenId>& tokens) {
  std::string text;
  for (const TokenId id : tokens) {
    text.push_back(static_cast<char>(id - 3));
  }
  return text;
}

const GrammarSpec kSpecs[] = {
    {.kind = GrammarKind::kRegex, .text = "([0-9]{1,4}-)+[a-z]*"},
    {.kind = GrammarKind::kJsonSchema,
     .text = R"({"type": "array", "items": {"enum": ["a", "bc", 7, null]}, "maxItems": 5})"},
    {.kind = GrammarKind::kChoice, .choices = {"yes", "no", "not at all"}}};

// A model in one process, as a chain of `shards` stages.
std::unique_ptr<Stage> Load(const Model& model, std::int32_t shards, std::int32_t kv_blocks) {
  StageOptions options;
  options.model = model.path;
  options.weight_type = model.weight_type;
  options.kv_type = model.kv_type;
  options.kv_blocks = kv_blocks;
  options.max_step_tokens = 64;
  options.threads = 1;
  options.constraints = ByteConstraints();
  const auto identity = IdentifyModel(options);
  EXPECT_TRUE(identity.ok()) << identity.status();
  std::unique_ptr<Stage> stage;
  for (std::int32_t shard = shards - 1; shard >= 0; --shard) {
    const auto layers = ShardLayers(identity->config.layers, shard, shards);
    EXPECT_TRUE(layers.ok()) << layers.status();
    options.first_layer = layers->first;
    options.last_layer = layers->last;
    auto loaded = LoadLlamaStage(options, std::move(stage));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    stage = *std::move(loaded);
  }
  return stage;
}

// Requests that begin like each other or like another's answer, with all kinds of sampling.
class RequestMaker {
 public:
  RequestMaker(std::uint32_t seed, std::int32_t vocab) : random_(seed), vocab_(vocab) {}

  EngineRequest Next() {
    EngineRequest request;
    std::vector<TokenId>& prompt = request.prompt_ids;
    if (!earlier_.empty() && Between(0, 3) > 0) {
      const auto& other = earlier_[static_cast<std::size_t>(
          Between(0, static_cast<std::int32_t>(earlier_.size()) - 1))];
      const auto common = std::min(static_cast<std::int32_t>(other.size()), Between(20, 120));
      prompt.assign(other.begin(), other.begin() + common);
    }
    for (std::int32_t more = Between(1, 40); more > 0; --more) {
      prompt.push_back(Between(3, vocab_ - 1));
    }
    prompt.resize(std::min<std::size_t>(prompt.size(), 150));
    request.max_new_tokens = Between(1, 50);
    request.sampling = Sampling();
    request.prompt_logprobs = request.sampling.logprobs.has_value() && Between(0, 1) == 0;
    request.priority = Between(-1, 1);
    if (Between(0, 2) == 0) {
      request.constraint = kSpecs[Between(0, 2)];
      request.stop_ids = {kEnd};
    }
    return request;
  }

  // A later request may begin like this conversation.
  void Remember(std::vector<TokenId> ids) { earlier_.push_back(std::move(ids)); }

  SamplingParams Sampling() {
    SamplingParams sampling;
    sampling.seed = random_();
    sampling.choice = static_cast<std::uint32_t>(Between(0, 2));
    sampling.temperature = Between(0, 2) == 0 ? 0.0F : 0.9F;
    sampling.top_k = Between(0, 1) * 40;
    sampling.top_p = Between(0, 1) == 0 ? 1.0F : 0.9F;
    sampling.repetition_penalty = Between(0, 1) == 0 ? 1.0F : 1.2F;
    sampling.presence_penalty = Between(0, 1) == 0 ? 0.0F : 0.5F;
    sampling.frequency_penalty = Between(0, 1) == 0 ? 0.0F : 0.3F;
    sampling.min_new_tokens = Between(0, 1) * 10;
    if (Between(0, 3) == 0) {
      sampling.logprobs = 2;
    }
    return sampling;
  }

  std::int32_t Between(std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random_);
  }

 private:
  std::mt19937 random_;
  std::int32_t vocab_;
  std::vector<std::vector<TokenId>> earlier_;
};

struct Totals {
  std::int64_t hits = 0;
  std::int64_t evictions = 0;
  std::int64_t preempted = 0;
};

// Runs the requests together, a few at a time, and returns their tokens.
std::vector<std::vector<TokenId>> RunAll(std::unique_ptr<Stage> stage, const EngineOptions& options,
                                         const std::vector<EngineRequest>& requests,
                                         Totals& totals) {
  const SteadyClock clock;
  auto engine = Engine::Create(options, std::move(stage), clock, [&](const StepStats& step) {
    totals.hits += step.prefix_hits;
    totals.evictions += step.evictions;
    totals.preempted += step.preempted;
  });
  EXPECT_TRUE(engine.ok()) << engine.status();
  std::vector<Collector> sinks(requests.size());
  constexpr std::size_t kAtOnce = 8;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    if (i >= kAtOnce) {
      sinks[i - kAtOnce].Wait();
    }
    EXPECT_TRUE((*engine)->Submit(requests[i], &sinks[i]).ok());
  }
  std::vector<std::vector<TokenId>> answers;
  for (Collector& sink : sinks) {
    const SequenceOutcome outcome = sink.Wait();
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    answers.push_back(sink.tokens());
  }
  return answers;
}

// Room for about two of the eight requests that run at once: blocks are evicted and taken away.
constexpr std::int32_t kFewBlocks = 11;

struct Setting {
  std::int32_t shards;
  std::int32_t kv_blocks;
  PrefixCache cache;
};
constexpr Setting kSettings[] = {{1, kFewBlocks, PrefixCache::kOn},
                                 {1, kFewBlocks, PrefixCache::kOff},
                                 {2, kFewBlocks, PrefixCache::kOn},
                                 {3, 200, PrefixCache::kOn}};

TEST(ModelWorkloadTest, TokensAreThoseOfEveryRequestAloneWhateverIsReused) {
  std::int64_t preempted = 0;
  for (const Model& model : Models()) {
    SCOPED_TRACE(model.name);
    std::unique_ptr<Stage> alone = Load(model, 1, 64);
    RequestMaker maker(7, alone->info().vocab);
    std::vector<EngineRequest> requests;
    std::vector<std::vector<TokenId>> expected;
    const SteadyClock clock;
    auto engine = Engine::Create({.step_tokens = 64, .prefix_cache = PrefixCache::kOff},
                                 std::move(alone), clock, {});
    ASSERT_TRUE(engine.ok());
    for (int i = 0; i < 10; ++i) {
      EngineRequest& request = requests.emplace_back(maker.Next());
      if (i < 4) {
        // They fit together when they begin, and not when they have grown.
        request.prompt_ids.resize(1);
        request.max_new_tokens = 100;
      }
      Collector sink;
      ASSERT_TRUE((*engine)->Submit(request, &sink).ok());
      ASSERT_TRUE(sink.Wait().status.ok());
      std::vector<TokenId> conversation = request.prompt_ids;
      const std::vector<TokenId>& answer = expected.emplace_back(sink.tokens());
      conversation.insert(conversation.end(), answer.begin(), answer.end());
      maker.Remember(std::move(conversation));
    }
    for (const Setting& setting : kSettings) {
      SCOPED_TRACE(::testing::Message()
                   << setting.shards << " shards, " << setting.kv_blocks << " blocks, "
                   << (setting.cache == PrefixCache::kOn ? "reused" : "not reused"));
      Totals totals;
      EXPECT_EQ(RunAll(Load(model, setting.shards, setting.kv_blocks),
                       {.step_tokens = 48, .prefix_cache = setting.cache}, requests, totals),
                expected);
      EXPECT_EQ(totals.hits > 0, setting.cache == PrefixCache::kOn);
      EXPECT_EQ(totals.evictions > 0,
                setting.cache == PrefixCache::kOn && setting.kv_blocks == kFewBlocks);
      preempted += totals.preempted;
    }
  }
  EXPECT_GT(preempted, 0);
}

TEST(ResumeTest, AnswerCutAnywhereGoesOnExactlyOnAnotherEngine) {
  constexpr std::int32_t kTokens = 12;
  for (const Model& model : Models()) {
    SCOPED_TRACE(model.name);
    const SteadyClock clock;
    auto first = Engine::Create({.step_tokens = 64}, Load(model, 1, 64), clock, {});
    auto second = Engine::Create({.step_tokens = 16}, Load(model, 2, 20), clock, {});
    ASSERT_TRUE(first.ok() && second.ok());
    RequestMaker maker(3, (*first)->stage_info().vocab);
    for (int i = 0; i < 3; ++i) {
      SCOPED_TRACE(i);
      EngineRequest request = maker.Next();
      request.max_new_tokens = kTokens;
      request.prompt_logprobs = false;
      request.constraint.reset();
      // A stop token that greedy and sampled answers run into: it may not be chosen early on.
      request.sampling.min_new_tokens = 8;
      Collector whole;
      ASSERT_TRUE((*first)->Submit(request, &whole).ok());
      ASSERT_TRUE(whole.Wait().status.ok());
      request.stop_ids = {whole.tokens().back(), whole.tokens()[4]};
      Collector uncut;
      ASSERT_TRUE((*first)->Submit(request, &uncut).ok());
      const SequenceOutcome expected = uncut.Wait();
      const std::vector<TokenId> tokens = uncut.tokens();
      ASSERT_GE(tokens.size(), 8U);
      for (std::size_t cut = 0; cut <= tokens.size(); ++cut) {
        const SequenceOutcome outcome = GoOn(**second, request, tokens, cut);
        EXPECT_EQ(outcome.reason, expected.reason);
        EXPECT_EQ(outcome.stop_token, expected.stop_token);
        EXPECT_EQ(outcome.generated_tokens + static_cast<std::int32_t>(cut),
                  expected.generated_tokens);
      }
    }
  }
}

TEST(ConstraintTest, EveryAnswerThatEndsIsWhatWasAskedForAndGoesOnExactlyWhereverItIsCut) {
  for (const Model& model : Models()) {
    SCOPED_TRACE(model.name);
    const SteadyClock clock;
    auto first = Engine::Create({.step_tokens = 64}, Load(model, 1, 64), clock, {});
    auto second = Engine::Create({.step_tokens = 16}, Load(model, 3, 64), clock, {});
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_TRUE((*second)->stage_info().constrains);
    RequestMaker maker(11, (*first)->stage_info().vocab);
    for (int i = 0; i < 6; ++i) {
      SCOPED_TRACE(i);
      EngineRequest request = maker.Next();
      request.prompt_logprobs = false;
      request.constraint = kSpecs[i % 3];
      request.stop_ids = {kEnd};
      request.sampling.min_new_tokens = 20;  // the texts to choose from are shorter
      request.sampling.logprobs = 1;
      request.max_new_tokens = 60;
      Collector whole;
      ASSERT_TRUE((*first)->Submit(request, &whole).ok());
      const SequenceOutcome expected = whole.Wait();
      ASSERT_TRUE(expected.status.ok()) << expected.status;
      const std::vector<TokenId> tokens = whole.tokens();
      const std::string text = TextOf(tokens);
      if (i % 3 == 0) {
        const char* whole_text = "([0-9]{1,4}-)+[a-z]*";
        const char* beginning = "([0-9]{1,4}-)*([0-9]{0,4}|[a-z]*)";
        const bool ended = expected.reason == FinishReason::kStop;
        EXPECT_THAT(text, ::testing::MatchesRegex(ended ? whole_text : beginning));
      }
      if (i % 3 == 2) {
        EXPECT_TRUE(text == "yes" || text == "no" || text == "not at all") << text;
      }
      if (i % 3 == 1) {
        EXPECT_EQ(nlohmann::json::accept(text), expected.reason == FinishReason::kStop) << text;
      }
      for (const std::size_t cut :
           {std::size_t{0}, std::size_t{1}, tokens.size() / 2, tokens.size()}) {
        if (static_cast<std::int32_t>(cut) == *request.max_new_tokens) {
          continue;
        }
        EXPECT_EQ(GoOn(**second, request, tokens, cut).reason, expected.reason);
      }
    }
  }
}

TEST(ConstraintTest, LogProbabilitiesStayTheModelsOwn) {
  const Model model = Models().front();
  const SteadyClock clock;
  auto engine = Engine::Create({.step_tokens = 64}, Load(model, 1, 64), clock, {});
  ASSERT_TRUE(engine.ok());
  EngineRequest request;
  request.prompt_ids = {1, 300, 400};
  request.max_new_tokens = 1;
  request.sampling.temperature = 0;
  request.sampling.logprobs = 3;
  Collector free;
  ASSERT_TRUE((*engine)->Submit(request, &free).ok());
  ASSERT_TRUE(free.Wait().status.ok());
  request.constraint = kSpecs[2];
  request.stop_ids = {kEnd};
  Collector held;
  ASSERT_TRUE((*engine)->Submit(request, &held).ok());
  ASSERT_TRUE(held.Wait().status.ok());
  ASSERT_EQ(held.sampled().at(0).top.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(held.sampled()[0].top[i].id, free.sampled().at(0).top[i].id);
    EXPECT_EQ(held.sampled()[0].top[i].logprob, free.sampled()[0].top[i].logprob);
  }
  EXPECT_LT(held.sampled()[0].logprob, free.sampled()[0].logprob);
}

TEST(ConstraintTest, IsRefusedWhereItCannotBeHeld) {
  const Model model = Models().front();
  const SteadyClock clock;
  StageOptions options;
  options.model = model.path;
  options.kv_blocks = 8;
  options.threads = 1;
  auto stage = LoadLlamaStage(options, nullptr);
  ASSERT_TRUE(stage.ok());
  auto engine = Engine::Create({.step_tokens = 64}, *std::move(stage), clock, {});
  ASSERT_TRUE(engine.ok());
  EngineRequest request;
  request.prompt_ids = {1};
  request.constraint = kSpecs[0];
  Collector sink;
  EXPECT_TRUE(absl::IsInvalidArgument((*engine)->Submit(request, &sink).status()));
  request.stop_ids = {kEnd};
  EXPECT_TRUE(absl::IsFailedPrecondition((*engine)->Submit(request, &sink).status()));
}

}  // namespace
}  // namespace yangtuo
