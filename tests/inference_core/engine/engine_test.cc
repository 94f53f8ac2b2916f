#include "inference_core/engine/engine.h"

#include <chrono>
#include <cstdint>
#include <future>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/inference_core/engine/collector.h"
#include "tests/inference_core/engine/set_clock.h"
#include "tests/testing/fake_stage.h"

namespace yangtuo {
namespace {

using std::chrono::seconds;
using testing::Collector;
using ::testing::ElementsAreArray;
using testing::FakeStage;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Request;
using testing::SetClock;

class EngineTest : public ::testing::Test {
 protected:
  Engine& Start(const FakeStage::Options& stage,
                const EngineOptions& options = {.step_tokens = 16}) {
    auto engine = Engine::Create(options, std::make_unique<FakeStage>(stage), clock_, {});
    EXPECT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    return *engine_;
  }
  void ExpectNothingHeld() {
    ASSERT_TRUE(engine_->WaitUntilIdle(clock_.Now() + seconds(20)));
    const EngineLoad load = engine_->load();
    EXPECT_EQ(load.running, 0);
    EXPECT_EQ(load.waiting, 0);
    EXPECT_EQ(load.kv_blocks_free, load.kv_blocks_total);
    EXPECT_EQ(load.pending_prompt_tokens, 0);
  }

  SteadyClock clock_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(EngineTest, DeliversExactlyTheTokensOfTheModel) {
  const FakeStage::Options stage;
  Engine& engine = Start(stage);
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({5, 6, 7}, 20), &sink).ok());
  const SequenceOutcome outcome = sink.Wait();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.reason, FinishReason::kLength);
  EXPECT_EQ(outcome.generated_tokens, 20);
  EXPECT_EQ(sink.tokens(), FakeStage::Expected(stage, {5, 6, 7}, 1, 20));
  ExpectNothingHeld();
}

TEST_F(EngineTest, StopTokenEndsTheAnswerAndIsNotDelivered) {
  const FakeStage::Options stage;
  const std::vector<TokenId> expected = FakeStage::Expected(stage, {5, 6, 7}, 1, 20);
  Engine& engine = Start(stage);
  Collector sink;
  EngineRequest request = Request({5, 6, 7}, 20);
  request.stop_ids = {expected[4]};
  ASSERT_TRUE(engine.Submit(std::move(request), &sink).ok());
  const SequenceOutcome outcome = sink.Wait();
  EXPECT_EQ(outcome.reason, FinishReason::kStop);
  EXPECT_EQ(outcome.stop_token, expected[4]);
  EXPECT_EQ(outcome.generated_tokens, 5);
  EXPECT_THAT(sink.tokens(), ElementsAreArray(expected.begin(), expected.begin() + 4));
  ExpectNothingHeld();
}

TEST_F(EngineTest, ResumedAnswerGoesOnWhereItWasLeft) {
  const FakeStage::Options stage;
  const std::vector<TokenId> expected = FakeStage::Expected(stage, {5, 6, 7}, 1, 20);
  Engine& engine = Start(stage);
  Collector sink;
  EngineRequest request = Request({5, 6, 7}, 20);
  request.resumed_ids = {expected.begin(), expected.begin() + 8};
  ASSERT_TRUE(engine.Submit(std::move(request), &sink).ok());
  EXPECT_EQ(sink.Wait().generated_tokens, 12);
  EXPECT_THAT(sink.tokens(), ElementsAreArray(expected.begin() + 8, expected.end()));
}

TEST_F(EngineTest, ContextEndsAnAnswer) {
  Engine& engine = Start({.context_tokens = 10});
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({1, 2, 3}, 100), &sink).ok());
  EXPECT_EQ(sink.Wait().reason, FinishReason::kLength);
  EXPECT_EQ(sink.tokens().size(), 7);
}

TEST_F(EngineTest, KvCacheSmallerThanTheContextEndsAnAnswerToo) {
  Engine& engine = Start({.kv_blocks = 3, .kv_block_size = 4});
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({1, 2, 3}, 100), &sink).ok());
  EXPECT_EQ(sink.Wait().reason, FinishReason::kLength);
  EXPECT_EQ(sink.tokens().size(), 10) << "12 positions, and the last token needs none";
  ExpectNothingHeld();
}

TEST_F(EngineTest, RefusesWhatCanNeverWorkWithTheNumbers) {
  Engine& engine = Start({.vocab = 100, .context_tokens = 10, .kv_blocks = 2, .kv_block_size = 4});
  Collector sink;
  const auto refused = [&](EngineRequest request) {
    return engine.Submit(std::move(request), &sink).status();
  };
  EXPECT_EQ(refused(Request({}, 1)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused(Request({100}, 1)).message()), HasSubstr("100"));
  EXPECT_THAT(std::string(refused(Request({-1}, 1)).message()), HasSubstr("-1"));
  EngineRequest stops = Request({1}, 1);
  stops.stop_ids = {2, 100};
  EXPECT_EQ(refused(std::move(stops)).code(), absl::StatusCode::kInvalidArgument)
      << "the head would refuse it, and with it everybody in the step";
  EXPECT_THAT(std::string(refused(Request(std::vector<TokenId>(10, 1), 1)).message()),
              HasSubstr("context holds 10"));
  EXPECT_THAT(std::string(refused(Request(std::vector<TokenId>(9, 1), 1)).message()),
              HasSubstr("holds 8"));
}

TEST_F(EngineTest, RefusesAtOnceWhenTheQueueIsFullAndTakesAgainAfterwards) {
  // The first request does not advance before the third was refused.
  std::promise<void> open;
  std::shared_future<void> gate = open.get_future().share();
  Engine& engine = Start({.before_next = [gate] { gate.wait(); }},
                         {.step_tokens = 16, .max_running = 1, .max_waiting = 1});
  Collector first;
  Collector second;
  Collector third;
  const auto id = engine.Submit(Request({1}, 400), &first);
  const auto waiting = engine.Submit(Request({2}, 400), &second);
  EXPECT_EQ(engine.Submit(Request({3}, 5), &third).status().code(),
            absl::StatusCode::kResourceExhausted);
  open.set_value();
  ASSERT_TRUE(id.ok() && waiting.ok());
  engine.Cancel(*waiting);
  engine.Cancel(*id);
  first.Wait();
  second.Wait();
  ASSERT_TRUE(engine.WaitUntilIdle(clock_.Now() + seconds(20)));
  ASSERT_TRUE(engine.Submit(Request({3}, 5), &third).ok());
  EXPECT_EQ(third.Wait().generated_tokens, 5);
  ExpectNothingHeld();
}

TEST_F(EngineTest, QueueMayBeAsLongAsCanBeCounted) {
  Engine& engine = Start({}, {.step_tokens = 16,
                              .max_running = std::numeric_limits<std::int32_t>::max(),
                              .max_waiting = std::numeric_limits<std::int32_t>::max()});
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({1}, 5), &sink).ok());
  EXPECT_EQ(sink.Wait().generated_tokens, 5);
}

TEST_F(EngineTest, CancelEndsAStreamAndFreesItsBlocks) {
  Engine& engine = Start({.context_tokens = 100000, .kv_blocks = 20000});
  Collector sink;
  const auto id = engine.Submit(Request({1}, 90000), &sink);
  ASSERT_TRUE(id.ok());
  sink.WaitForTokens(3);
  engine.Cancel(*id);
  EXPECT_EQ(sink.Wait().status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(engine.load().kv_blocks_free, 20000);
  engine.Cancel(*id);
  ExpectNothingHeld();
}

TEST_F(EngineTest, PassedDeadlineEndsAStream) {
  Engine& engine = Start({.context_tokens = 100000, .kv_blocks = 20000});
  Collector sink;
  EngineRequest request = Request({1}, 90000);
  request.deadline = clock_.Now() + std::chrono::milliseconds(20);
  ASSERT_TRUE(engine.Submit(std::move(request), &sink).ok());
  EXPECT_EQ(sink.Wait().status.code(), absl::StatusCode::kDeadlineExceeded);
  ExpectNothingHeld();
}

TEST_F(EngineTest, EmbedsAWholePromptOverSeveralSteps) {
  Engine& engine = Start({}, {.step_tokens = 4});
  Collector sink;
  EngineRequest request;
  request.task = SequenceTask::kEmbed;
  for (TokenId id = 0; id < 30; ++id) {
    request.prompt_ids.push_back(id);
  }
  const FakeStage::Options stage;
  const float expected =
      static_cast<float>(FakeStage::Expected(stage, request.prompt_ids, 0, 1).front());
  ASSERT_TRUE(engine.Submit(std::move(request), &sink).ok());
  EXPECT_TRUE(sink.Wait().status.ok());
  EXPECT_THAT(sink.embedding(), ::testing::ElementsAre(expected));
  EXPECT_THAT(sink.tokens(), IsEmpty());
}

TEST_F(EngineTest, PromptLogprobsComeOnceAndInOrderAlsoWhenTheGroupIsLost) {
  for (const std::int64_t lost_at : {0, 2, 3}) {
    Engine& engine = Start({.depth = 2, .lost_at = {lost_at}}, {.step_tokens = 4});
    Collector sink;
    EngineRequest request = Request({10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}, 3);
    request.prompt_logprobs = true;
    ASSERT_TRUE(engine.Submit(std::move(request), &sink).ok());
    EXPECT_TRUE(sink.Wait().status.ok());
    EXPECT_THAT(sink.prompt(), ElementsAreArray({11, 12, 13, 14, 15, 16, 17, 18, 19, 20}));
  }
}

TEST_F(EngineTest, FailsWithUnavailableWhenAShardStaysLostAndServesAgainWhenItIsBack) {
  Engine& engine = Start({.lost_at = {5}, .failing_resets = 30},
                         {.step_tokens = 16,
                          .recovery_limit = std::chrono::milliseconds(100),
                          .recovery_pause = std::chrono::milliseconds(10)});
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({1}, 100), &sink).ok());
  EXPECT_EQ(sink.Wait().status.code(), absl::StatusCode::kUnavailable);
  Collector refused;
  EXPECT_EQ(engine.Submit(Request({1}, 5), &refused).status().code(),
            absl::StatusCode::kUnavailable);
  const TimePoint limit = clock_.Now() + seconds(20);
  while (!engine.load().stage_ok && clock_.Now() < limit) {
    std::this_thread::yield();
  }
  ASSERT_TRUE(engine.Submit(Request({1}, 5), &refused).ok());
  EXPECT_TRUE(refused.Wait().status.ok());
  ExpectNothingHeld();
}

TEST_F(EngineTest, TakesNothingNewWhileDrainingButFinishesWhatRuns) {
  Engine& engine = Start({});
  Collector running;
  Collector refused;
  ASSERT_TRUE(engine.Submit(Request({1}, 50), &running).ok());
  engine.StopAccepting();
  EXPECT_EQ(engine.Submit(Request({2}, 5), &refused).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(running.Wait().generated_tokens, 50);
  ExpectNothingHeld();
}

TEST_F(EngineTest, DestructionCancelsWhatRuns) {
  Engine& engine = Start({.context_tokens = 100000, .kv_blocks = 20000});
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({1}, 90000), &sink).ok());
  sink.WaitForTokens(1);
  engine_.reset();
  EXPECT_EQ(sink.Wait().status.code(), absl::StatusCode::kCancelled);
}

TEST_F(EngineTest, StageThatComesBackOnlyToFailAgainIsGivenUp) {
  Engine& engine = Start({.refuses_from = 4}, {.step_tokens = 16,
                                               .recovery_limit = std::chrono::milliseconds(60),
                                               .recovery_pause = std::chrono::milliseconds(10)});
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({1}, 100), &sink).ok());
  EXPECT_EQ(sink.Wait().status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(sink.tokens().size(), 3);
  ExpectNothingHeld();
}

TEST_F(EngineTest, ErrorOfOneStepFailsItsSequencesAndNoOthers) {
  const FakeStage::Options stage{.poison = 999};
  // The poisoned prompt never shares a step: one sequence runs at a time.
  Engine& engine = Start(
      stage, {.step_tokens = 16, .max_running = 1, .recovery_pause = std::chrono::milliseconds(1)});
  Collector good;
  Collector bad;
  Collector later;
  ASSERT_TRUE(engine.Submit(Request({1}, 3), &good).ok());
  ASSERT_TRUE(engine.Submit(Request({2, 999}, 3), &bad).ok());
  ASSERT_TRUE(engine.Submit(Request({3}, 3), &later).ok());
  EXPECT_TRUE(good.Wait().status.ok());
  EXPECT_EQ(bad.Wait().status.code(), absl::StatusCode::kInternal);
  EXPECT_TRUE(later.Wait().status.ok());
  EXPECT_EQ(later.tokens(), FakeStage::Expected(stage, {3}, 1, 3));
  ExpectNothingHeld();
}

TEST_F(EngineTest, SequenceThatFailsAloneEndsAloneAndTheOthersOfItsStepsGoOn) {
  std::promise<void> open;
  std::shared_future<void> gate = open.get_future().share();
  const FakeStage::Options stage{.broken = 999, .before_next = [gate] { gate.wait(); }};
  Engine& engine = Start(stage, {.step_tokens = 32});
  Collector holder;
  Collector good;
  Collector bad;
  Collector embedded;
  Collector scored;
  ASSERT_TRUE(engine.Submit(Request({4}, 20), &holder).ok());
  ASSERT_TRUE(engine.Submit(Request({1}, 20), &good).ok());
  ASSERT_TRUE(engine.Submit(Request({2, 999}, 20), &bad).ok());
  EngineRequest embedding;
  embedding.task = SequenceTask::kEmbed;
  embedding.prompt_ids = {3, 999};
  ASSERT_TRUE(engine.Submit(std::move(embedding), &embedded).ok());
  // Breaks in a step that no output is wanted of.
  EngineRequest logprobs = Request(std::vector<TokenId>(60, 7), 20);
  logprobs.prompt_ids[2] = 999;
  logprobs.prompt_logprobs = true;
  ASSERT_TRUE(engine.Submit(std::move(logprobs), &scored).ok());
  open.set_value();
  for (Collector* sink : {&bad, &embedded, &scored}) {
    const SequenceOutcome outcome = sink->Wait();
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("not finite"));
    EXPECT_THAT(sink->tokens(), IsEmpty());
  }
  EXPECT_TRUE(holder.Wait().status.ok());
  EXPECT_TRUE(good.Wait().status.ok());
  EXPECT_EQ(good.tokens(), FakeStage::Expected(stage, {1}, 1, 20));
  ExpectNothingHeld();
}

TEST_F(EngineTest, MissingOutputIsAnErrorAndNotASequenceThatWaitsForEver) {
  Engine& engine = Start({.forgotten = 999});
  Collector sink;
  ASSERT_TRUE(engine.Submit(Request({1, 999}, 3), &sink).ok());
  const SequenceOutcome outcome = sink.Wait();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("expected exactly those"));
  ExpectNothingHeld();
}

TEST_F(EngineTest, MoreRunningSequencesThanRowsOfAStepAllGetTheirTurn) {
  const FakeStage::Options stage;
  Engine& engine = Start(stage, {.step_tokens = 2, .max_running = 64});
  std::vector<Collector> sinks(6);
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    ASSERT_TRUE(engine.Submit(Request({static_cast<TokenId>(i)}, 20), &sinks[i]).ok());
    EXPECT_LE(engine.load().running, 2);
  }
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_TRUE(sinks[i].Wait().status.ok());
    EXPECT_EQ(sinks[i].tokens(), FakeStage::Expected(stage, {static_cast<TokenId>(i)}, 1, 20));
  }
}

TEST_F(EngineTest, AnswerThatIsResumedAtItsEndFinishesWithoutComputing) {
  Engine& engine = Start({});
  Collector sink;
  EngineRequest request = Request({5, 6}, 3);
  request.resumed_ids = {7, 8, 9};
  ASSERT_TRUE(engine.Submit(std::move(request), &sink).ok());
  const SequenceOutcome outcome = sink.Wait();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.reason, FinishReason::kLength);
  EXPECT_EQ(outcome.generated_tokens, 0);
  EXPECT_THAT(sink.tokens(), IsEmpty());
}

TEST_F(EngineTest, FinishedSequenceLeavesItsPlaceBeforeItsSinkHearsOfIt) {
  Engine& engine = Start({}, {.step_tokens = 16, .max_running = 1, .max_waiting = 0});
  for (int i = 0; i < 50; ++i) {
    Collector sink;
    ASSERT_TRUE(engine.Submit(Request({1}, 2), &sink).ok()) << "request " << i;
    sink.Wait();
    EXPECT_EQ(engine.load().running, 0);
    EXPECT_EQ(engine.load().kv_blocks_free, engine.load().kv_blocks_total);
  }
}

TEST(EngineClockTest, DeadlinesQueueTimesAndRatesFollowTheClockAlone) {
  SetClock clock;
  const FakeStage::Options stage{.context_tokens = 100000,
                                 .kv_blocks = 30000,
                                 .before_next = [&clock] { clock.Advance(seconds(1)); }};
  std::vector<StepStats> stats;
  auto engine =
      Engine::Create({.step_tokens = 16, .max_running = 1}, std::make_unique<FakeStage>(stage),
                     clock, [&stats](const StepStats& step) { stats.push_back(step); });
  ASSERT_TRUE(engine.ok());
  Collector sink;
  EngineRequest request = Request({1}, 90000);
  request.deadline = clock.Now() + seconds(20);
  ASSERT_TRUE((*engine)->Submit(std::move(request), &sink).ok());
  EXPECT_EQ(sink.Wait().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(sink.tokens().size(), 20) << "a step takes one second";
  EXPECT_DOUBLE_EQ((*engine)->load().tokens_per_second, 1.0);
  clock.Advance(seconds(10));
  EXPECT_DOUBLE_EQ((*engine)->load().tokens_per_second, 0.0);
  engine->reset();
  ASSERT_EQ(stats.size(), 20);
  EXPECT_EQ(stats.front().prompt_rows, 1);
  EXPECT_EQ(stats.back().decode_rows, 1);
  EXPECT_EQ(stats.back().total, seconds(1));
}

}  // namespace
}  // namespace yangtuo
