// Requests that begin like earlier ones compute only the rest, with the same tokens.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <memory>
#include <numeric>
#include <semaphore>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/engine/engine.h"
#include "tests/inference_core/engine/collector.h"
#include "tests/testing/fake_stage.h"

namespace yangtuo {
namespace {

using testing::Collector;
using testing::FakeStage;
using testing::Request;

std::vector<TokenId> Numbers(TokenId first, std::int32_t count) {
  std::vector<TokenId> ids(static_cast<std::size_t>(count));
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

std::vector<TokenId> Join(std::vector<TokenId> a, const std::vector<TokenId>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

class PrefixReuseTest : public ::testing::Test {
 protected:
  // What all steps together did.
  struct Sums {
    std::int64_t prompt_rows = 0;
    std::int64_t queries = 0;
    std::int64_t hits = 0;
    std::int64_t evictions = 0;
    std::int64_t preempted = 0;
  };

  void Start(const FakeStage::Options& stage, const EngineOptions& options = {.step_tokens = 64}) {
    stage_ = stage;
    sums_ = {};
    auto engine = Engine::Create(options, std::make_unique<FakeStage>(stage), clock_,
                                 [this](const StepStats& step) { Add(step); });
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  // Runs one request to its end, checks its tokens, and returns the prompt tokens it found.
  std::int32_t Run(EngineRequest request) {
    const std::vector<TokenId> expected = FakeStage::Expected(
        stage_, request.prompt_ids, request.sampling.seed, *request.max_new_tokens);
    Collector sink;
    EXPECT_TRUE(engine_->Submit(std::move(request), &sink).ok());
    const SequenceOutcome outcome = sink.Wait();
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(sink.tokens(), expected);
    return sink.cached_prompt_tokens();
  }

  // Ends the engine, so that every step is counted.
  Sums Finish() {
    engine_.reset();
    return sums_;
  }

  SteadyClock clock_;
  FakeStage::Options stage_;
  std::unique_ptr<Engine> engine_;

 private:
  void Add(const StepStats& step) {
    sums_.prompt_rows += step.prompt_rows;
    sums_.queries += step.prefix_queries;
    sums_.hits += step.prefix_hits;
    sums_.evictions += step.evictions;
    sums_.preempted += step.preempted;
  }

  Sums sums_;  // engine thread, until it is gone
};

TEST_F(PrefixReuseTest, PromptWithACachedBeginningComputesOnlyItsEnd) {
  Start({.context_tokens = 1024, .kv_blocks = 64, .kv_block_size = 32});
  const std::vector<TokenId> context = Numbers(1, 448);
  EXPECT_EQ(Run(Request(Join(context, Numbers(500, 64)), 1)), 0);
  EXPECT_EQ(Run(Request(Join(context, Numbers(700, 64)), 1)), 448);
  const Sums sums = Finish();
  EXPECT_EQ(sums.prompt_rows, 512 + 64) << "an eighth of the rows the second time";
  EXPECT_EQ(sums.queries, 2 * 512);
  EXPECT_EQ(sums.hits, 448);
}

TEST_F(PrefixReuseTest, OneTokenIsAlwaysLeftToCompute) {
  Start({});
  EXPECT_EQ(Run(Request(Numbers(1, 16), 3)), 0);
  EXPECT_EQ(Run(Request(Numbers(1, 16), 3)), 12);
  EXPECT_EQ(Run(Request(Numbers(1, 17), 3)), 16);
}

TEST_F(PrefixReuseTest, NextTurnOfAConversationFindsPromptAndAnswer) {
  Start({});
  const std::vector<TokenId> prompt = Numbers(1, 18);
  EXPECT_EQ(Run(Request(prompt, 15)), 0);
  const std::vector<TokenId> turn =
      Join(Join(prompt, FakeStage::Expected(stage_, prompt, 1, 15)), Numbers(900, 5));
  // 18 + 15 tokens; the last one was sampled but never computed.
  EXPECT_EQ(Run(Request(turn, 4)), 32);
}

TEST_F(PrefixReuseTest, ResumedAnswerFindsBlocksToo) {
  Start({});
  const std::vector<TokenId> prompt = Numbers(1, 10);
  const std::vector<TokenId> answer = FakeStage::Expected(stage_, prompt, 1, 20);
  EXPECT_EQ(Run(Request(prompt, 20)), 0);
  EngineRequest resumed = Request(prompt, 20);
  resumed.resumed_ids = {answer.begin(), answer.begin() + 12};
  Collector sink;
  ASSERT_TRUE(engine_->Submit(std::move(resumed), &sink).ok());
  EXPECT_TRUE(sink.Wait().status.ok());
  EXPECT_EQ(sink.cached_prompt_tokens(), 10) << "usage speaks of the prompt alone";
  EXPECT_EQ(sink.tokens(), std::vector<TokenId>(answer.begin() + 12, answer.end()));
  const Sums sums = Finish();
  EXPECT_EQ(sums.prompt_rows, 10 + 2);
}

TEST_F(PrefixReuseTest, RequestsWithDifferentSaltsShareNothing) {
  Start({});
  EngineRequest request = Request(Numbers(1, 20), 3);
  request.cache_salt = "a";
  EXPECT_EQ(Run(request), 0);
  EXPECT_EQ(Run(request), 16);
  request.cache_salt = "b";
  EXPECT_EQ(Run(request), 0);
}

TEST_F(PrefixReuseTest, SwitchedOffItFindsNothing) {
  Start({}, {.step_tokens = 64, .prefix_cache = PrefixCache::kOff});
  EXPECT_EQ(Run(Request(Numbers(1, 20), 3)), 0);
  EXPECT_EQ(Run(Request(Numbers(1, 20), 3)), 0);
  EXPECT_FALSE(engine_->prefix_scheme().has_value());
  EXPECT_EQ(engine_->load().kv_blocks_cached, 0);
  EXPECT_EQ(Finish().queries, 0);
}

TEST_F(PrefixReuseTest, EmbeddingsAndPromptLogprobsComputeEveryPosition) {
  Start({});
  const std::vector<TokenId> prompt = Numbers(1, 20);
  EXPECT_EQ(Run(Request(prompt, 1)), 0);
  EngineRequest scored = Request(prompt, 1);
  scored.prompt_logprobs = true;
  Collector logprobs;
  ASSERT_TRUE(engine_->Submit(std::move(scored), &logprobs).ok());
  EXPECT_TRUE(logprobs.Wait().status.ok());
  EXPECT_EQ(logprobs.cached_prompt_tokens(), 0);
  EXPECT_EQ(logprobs.prompt(), Numbers(2, 19));
  EngineRequest embedded;
  embedded.task = SequenceTask::kEmbed;
  embedded.prompt_ids = prompt;
  Collector embedding;
  ASSERT_TRUE(engine_->Submit(std::move(embedded), &embedding).ok());
  EXPECT_TRUE(embedding.Wait().status.ok());
  EXPECT_EQ(embedding.cached_prompt_tokens(), 0);
  EXPECT_EQ(Run(Request(prompt, 1)), 16);
  const Sums sums = Finish();
  EXPECT_EQ(sums.prompt_rows, 3 * 20 + 4);
  EXPECT_EQ(sums.queries, 2 * 20);
}

TEST_F(PrefixReuseTest, PromptWithLogprobsCanBeFoundAndAnEmbeddingCannot) {
  Start({.kv_blocks = 8, .kv_block_size = 4});
  EngineRequest scored = Request(Numbers(1, 12), 1);
  scored.prompt_logprobs = true;
  EXPECT_EQ(Run(std::move(scored)), 0);
  EXPECT_EQ(engine_->load().kv_blocks_cached, 3);
  for (TokenId first = 100; first < 400; first += 100) {
    EngineRequest embedded;
    embedded.task = SequenceTask::kEmbed;
    embedded.prompt_ids = Numbers(first, 20);
    Collector embedding;
    ASSERT_TRUE(engine_->Submit(std::move(embedded), &embedding).ok());
    EXPECT_TRUE(embedding.Wait().status.ok());
    EXPECT_EQ(engine_->load().kv_blocks_cached, 3);
  }
  EXPECT_EQ(Run(Request(Numbers(1, 13), 1)), 12);
  EXPECT_EQ(Finish().evictions, 0);
}

TEST_F(PrefixReuseTest, RequestsThatArriveTogetherComputeTheirCommonPromptOnce) {
  std::promise<void> open;
  std::shared_future<void> gate = open.get_future().share();
  Start({.kv_blocks = 200, .before_next = [gate] { gate.wait(); }}, {.step_tokens = 64});
  std::vector<Collector> sinks(8);
  // The first request holds the engine in its first step until all of the others wait.
  Collector holder;
  ASSERT_TRUE(engine_->Submit(Request({999}, 3), &holder).ok());
  const std::vector<TokenId> prompt = Numbers(1, 90);
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(engine_->Submit(Request(prompt, 5, i), &sinks[i]).ok());
  }
  open.set_value();
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_TRUE(sinks[i].Wait().status.ok());
    EXPECT_EQ(sinks[i].tokens(), FakeStage::Expected(stage_, prompt, i, 5));
  }
  holder.Wait();
  EXPECT_EQ(Finish().prompt_rows, 1 + 90 + 7 * 2) << "88 of 90 tokens fill blocks";
}

TEST_F(PrefixReuseTest, LostStageLosesEveryBlock) {
  Start({.lost_at = {8}}, {.step_tokens = 64, .recovery_pause = std::chrono::milliseconds(1)});
  const std::vector<TokenId> prompt = Numbers(1, 20);
  EXPECT_EQ(Run(Request(prompt, 2)), 0);   // steps 1 and 2
  EXPECT_EQ(Run(Request(prompt, 2)), 16);  // 3 and 4
  EXPECT_EQ(Run(Request({7, 8}, 6)), 0);   // 5 to 10; number 8 is lost
  EXPECT_EQ(Run(Request(prompt, 2)), 0);
}

TEST_F(PrefixReuseTest, FailedStepLeavesNothingToFind) {
  Start({.poison = 999}, {.step_tokens = 64, .recovery_pause = std::chrono::milliseconds(1)});
  EXPECT_EQ(Run(Request(Numbers(1, 20), 2)), 0);
  Collector bad;
  ASSERT_TRUE(engine_->Submit(Request(Join(Numbers(1, 20), {999}), 2), &bad).ok());
  EXPECT_EQ(bad.Wait().status.code(), absl::StatusCode::kInternal);
  const TimePoint limit = clock_.Now() + std::chrono::seconds(20);
  while (!engine_->load().stage_ok && clock_.Now() < limit) {
    std::this_thread::yield();
  }
  EXPECT_EQ(Run(Request(Numbers(1, 20), 2)), 0);
}

TEST_F(PrefixReuseTest, SequenceThatFailsLeavesNothingToFindAndOthersStay) {
  Start({.broken = 999});
  EXPECT_EQ(Run(Request(Numbers(1, 20), 2)), 0);
  EXPECT_EQ(Run(Request(Numbers(100, 20), 2)), 0);
  Collector bad;
  ASSERT_TRUE(engine_->Submit(Request(Join(Numbers(1, 20), {999, 5, 6, 7}), 2), &bad).ok());
  EXPECT_EQ(bad.Wait().status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(bad.cached_prompt_tokens(), 20);
  EXPECT_EQ(Run(Request(Numbers(1, 20), 2)), 0) << "what it found may be the cause";
  EXPECT_EQ(Run(Request(Numbers(100, 20), 2)), 16);
}

TEST_F(PrefixReuseTest, OldBlocksMakePlaceForNewRequests) {
  Start({.kv_blocks = 8, .kv_block_size = 4});
  EXPECT_EQ(Run(Request(Numbers(1, 20), 3)), 0);
  EXPECT_EQ(engine_->load().kv_blocks_cached, 5);
  EXPECT_EQ(engine_->load().kv_blocks_free, 8) << "what nobody holds is free";
  EXPECT_EQ(Run(Request(Numbers(100, 30), 2)), 0) << "needs all blocks";
  EXPECT_EQ(Run(Request(Numbers(1, 20), 3)), 0);
  EXPECT_GT(Finish().evictions, 0);
}

TEST_F(PrefixReuseTest, WaitingRequestsStartWhenTheBlocksTheyReallyNeedAreThere) {
  // 12 blocks: two prompts of 8 blocks each fit together only because they have 7 in common.
  std::promise<void> open;
  std::shared_future<void> gate = open.get_future().share();
  Start({.kv_blocks = 12, .kv_block_size = 4, .before_next = [gate] { gate.wait(); }},
        {.step_tokens = 64});
  Collector first;
  Collector second;
  ASSERT_TRUE(engine_->Submit(Request(Numbers(1, 30), 2), &first).ok());
  while (engine_->load().running == 0) {
    std::this_thread::yield();
  }
  ASSERT_TRUE(engine_->Submit(Request(Join(Numbers(1, 28), {800, 801}), 2), &second).ok());
  open.set_value();
  EXPECT_TRUE(first.Wait().status.ok());
  EXPECT_TRUE(second.Wait().status.ok());
  EXPECT_EQ(second.cached_prompt_tokens(), 28);
  EXPECT_EQ(Finish().preempted, 0);
}

TEST_F(PrefixReuseTest, UrgentRequestFindsTheBlocksOfTheOneItTakesThePlaceOf) {
  // 10 blocks. The victim holds six; a request that is as urgent holds three and soon a fourth. The
  // new one finds four of the victim's and needs four more: there is no place before the other
  // urgent one has ended.
  std::counting_semaphore<> steps(0);
  Start({.kv_blocks = 10, .kv_block_size = 4, .before_next = [&steps] { steps.acquire(); }});
  const auto wait_until_running = [this](std::int32_t count) {
    while (engine_->load().running != count) {
      std::this_thread::yield();
    }
  };
  std::vector<EngineRequest> requests = {Request(Numbers(100, 11), 6),
                                         Request(Join(Numbers(1, 16), Numbers(200, 7)), 8),
                                         Request(Join(Numbers(1, 16), Numbers(300, 14)), 4)};
  requests[0].priority = 1;
  requests[2].priority = 1;
  std::vector<Collector> sinks(requests.size());
  Collector first_step;
  ASSERT_TRUE(engine_->Submit(Request({999}, 1), &first_step).ok());
  wait_until_running(1);
  ASSERT_TRUE(engine_->Submit(requests[0], sinks.data()).ok());
  ASSERT_TRUE(engine_->Submit(requests[1], &sinks[1]).ok());
  steps.release();
  wait_until_running(2);
  ASSERT_TRUE(engine_->Submit(requests[2], &sinks[2]).ok());
  steps.release(1000);
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const SequenceOutcome outcome = sinks[i].Wait();
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_EQ(sinks[i].tokens(),
              FakeStage::Expected(stage_, requests[i].prompt_ids, 1, *requests[i].max_new_tokens));
  }
  EXPECT_EQ(sinks[2].cached_prompt_tokens(), 16);
  EXPECT_EQ(Finish().preempted, 1);
}

TEST_F(PrefixReuseTest, PreemptedSequenceFindsItsOwnBlocksAgain) {
  const auto rows = [&](PrefixCache cache) {
    // The first step waits until all of the requests are there: they start together however slowly
    // this thread submits them.
    std::promise<void> open;
    std::shared_future<void> gate = open.get_future().share();
    Start({.kv_blocks = 40, .kv_block_size = 4, .depth = 2, .before_next = [gate] { gate.wait(); }},
          {.step_tokens = 32, .prefix_cache = cache});
    std::vector<Collector> sinks(10);
    for (std::size_t i = 0; i < sinks.size(); ++i) {
      EXPECT_TRUE(engine_->Submit(Request({static_cast<TokenId>(i), 7}, 60), &sinks[i]).ok());
    }
    open.set_value();
    for (std::size_t i = 0; i < sinks.size(); ++i) {
      EXPECT_TRUE(sinks[i].Wait().status.ok());
      EXPECT_EQ(sinks[i].tokens(),
                FakeStage::Expected(stage_, {static_cast<TokenId>(i), 7}, 1, 60));
    }
    return Finish();
  };
  const Sums with = rows(PrefixCache::kOn);
  const Sums without = rows(PrefixCache::kOff);
  EXPECT_GT(with.preempted, 0);
  EXPECT_GT(without.preempted, 0);
  EXPECT_LT(with.prompt_rows, without.prompt_rows);
  EXPECT_EQ(with.hits, 0) << "what a sequence computed itself is no hit";
}

}  // namespace
}  // namespace yangtuo
