// The engine over real models: tokens do not depend on reuse of KV blocks, eviction, preemption,
// other requests or shards, nor on where an answer was cut and resumed.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/engine/engine.h"
#include "inference_core/model/llama_stage.h"
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

// A model in one process, as a chain of `shards` stages.
std::unique_ptr<Stage> Load(const Model& model, std::int32_t shards, std::int32_t kv_blocks) {
  StageOptions options;
  options.model = model.path;
  options.weight_type = model.weight_type;
  options.kv_type = model.kv_type;
  options.kv_blocks = kv_blocks;
  options.max_step_tokens = 64;
  options.threads = 1;
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
        EngineRequest rest = request;
        rest.resumed_ids.assign(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(cut));
        Collector sink;
        ASSERT_TRUE((*second)->Submit(std::move(rest), &sink).ok());
        const SequenceOutcome outcome = sink.Wait();
        ASSERT_TRUE(outcome.status.ok()) << outcome.status;
        std::vector<TokenId> joined(tokens.begin(),
                                    tokens.begin() + static_cast<std::ptrdiff_t>(cut));
        const std::vector<TokenId> delivered = sink.tokens();
        joined.insert(joined.end(), delivered.begin(), delivered.end());
        EXPECT_EQ(joined, tokens) << "cut at " << cut;
        EXPECT_EQ(outcome.reason, expected.reason);
        EXPECT_EQ(outcome.stop_token, expected.stop_token);
        EXPECT_EQ(outcome.generated_tokens + static_cast<std::int32_t>(cut),
                  expected.generated_tokens);
      }
    }
  }
}

}  // namespace
}  // namespace yangtuo
