#include "inference_core/engine/engine.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/base/mutex.h"
#include "tests/testing/fake_stage.h"

namespace yangtuo {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAreArray;
using testing::FakeStage;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Collects one sequence's output; checks the order of events.
class Collector final : public SequenceSink {
 public:
  void OnToken(SampledToken token) override {
    const MutexLock lock(mutex_);
    EXPECT_FALSE(finished_) << "a token after the end";
    tokens_.push_back(token.id);
    changed_.NotifyAll();
  }
  void OnPromptLogprobs(std::span<const SampledToken> entries) override {
    const MutexLock lock(mutex_);
    EXPECT_THAT(tokens_, IsEmpty());
    for (const SampledToken& entry : entries) {
      prompt_.push_back(entry.id);
    }
  }
  void OnEmbedding(std::vector<float> values) override {
    const MutexLock lock(mutex_);
    embedding_ = std::move(values);
  }
  void OnFinished(const SequenceOutcome& outcome) override {
    const MutexLock lock(mutex_);
    EXPECT_FALSE(finished_) << "finished twice";
    finished_ = true;
    outcome_ = outcome;
    changed_.NotifyAll();
  }

  SequenceOutcome Wait() {
    const MutexLock lock(mutex_);
    const TimePoint limit = std::chrono::steady_clock::now() + seconds(60);
    while (!finished_ && changed_.WaitUntil(mutex_, limit)) {
    }
    EXPECT_TRUE(finished_);
    return outcome_;
  }
  void WaitForTokens(std::size_t count) {
    const MutexLock lock(mutex_);
    const TimePoint limit = std::chrono::steady_clock::now() + seconds(60);
    while (tokens_.size() < count && !finished_ && changed_.WaitUntil(mutex_, limit)) {
    }
  }
  std::vector<TokenId> tokens() {
    const MutexLock lock(mutex_);
    return tokens_;
  }
  std::vector<TokenId> prompt() {
    const MutexLock lock(mutex_);
    return prompt_;
  }
  std::vector<float> embedding() {
    const MutexLock lock(mutex_);
    return embedding_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<TokenId> tokens_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenId> prompt_ ABSL_GUARDED_BY(mutex_);
  std::vector<float> embedding_ ABSL_GUARDED_BY(mutex_);
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  SequenceOutcome outcome_ ABSL_GUARDED_BY(mutex_);
};

EngineRequest Request(std::vector<TokenId> prompt, std::int32_t max_new_tokens,
                      std::uint64_t seed = 1) {
  EngineRequest request;
  request.prompt_ids = std::move(prompt);
  request.max_new_tokens = max_new_tokens;
  request.sampling.seed = seed;
  return request;
}

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
  EXPECT_THAT(std::string(refused(Request(std::vector<TokenId>(10, 1), 1)).message()),
              HasSubstr("context holds 10"));
  EXPECT_THAT(std::string(refused(Request(std::vector<TokenId>(9, 1), 1)).message()),
              HasSubstr("holds 8"));
}

TEST_F(EngineTest, RefusesAtOnceWhenTheQueueIsFullAndTakesAgainAfterwards) {
  Engine& engine = Start({}, {.step_tokens = 16, .max_running = 1, .max_waiting = 1});
  Collector first;
  Collector second;
  Collector third;
  const auto id = engine.Submit(Request({1}, 400), &first);
  const auto waiting = engine.Submit(Request({2}, 400), &second);
  ASSERT_TRUE(id.ok() && waiting.ok());
  EXPECT_EQ(engine.Submit(Request({3}, 5), &third).status().code(),
            absl::StatusCode::kResourceExhausted);
  engine.Cancel(*waiting);
  engine.Cancel(*id);
  first.Wait();
  second.Wait();
  ASSERT_TRUE(engine.WaitUntilIdle(clock_.Now() + seconds(20)));
  ASSERT_TRUE(engine.Submit(Request({3}, 5), &third).ok());
  EXPECT_EQ(third.Wait().generated_tokens, 5);
  ExpectNothingHeld();
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

// Any workload under any limits: every request that is not cancelled gives the tokens it gives
// alone, each exactly once, and nothing stays held.
class WorkloadTest : public EngineTest, public ::testing::WithParamInterface<std::uint32_t> {};

TEST_P(WorkloadTest, GivesTheSameTokensAsAlone) {
  std::mt19937 random(GetParam());
  const auto between = [&](std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random);
  };
  FakeStage::Options stage{.context_tokens = 128,
                           .kv_blocks = between(32, 80),
                           .kv_block_size = 4,
                           .max_step_tokens = 64,
                           .depth = between(1, 4)};
  for (int i = between(0, 3); i > 0; --i) {
    stage.lost_at.insert(between(5, 200));
  }
  stage.failing_resets = between(0, 2);
  EngineOptions options{.step_tokens = between(2, 64),
                        .prompt_chunk = between(0, 9),
                        .max_running = between(1, 32),
                        .recovery_pause = std::chrono::milliseconds(1)};
  options.max_running = std::min(options.max_running, options.step_tokens * stage.depth);
  Engine& engine = Start(stage, options);

  constexpr int kRequests = 40;
  struct Job {
    EngineRequest request;
    bool cancelled = false;
    std::unique_ptr<Collector> sink = std::make_unique<Collector>();
  };
  std::vector<Job> jobs(kRequests);
  for (Job& job : jobs) {
    std::vector<TokenId> prompt(static_cast<std::size_t>(between(1, 60)));
    std::generate(prompt.begin(), prompt.end(), [&] { return between(0, stage.vocab - 1); });
    job.request = Request(std::move(prompt), between(1, 60), random());
    job.request.priority = between(-1, 1);
    // A lost shard refuses new requests for a moment: try again until it is back.
    absl::StatusOr<SequenceId> id = absl::UnavailableError("");
    while (absl::IsUnavailable(id.status())) {
      id = engine.Submit(job.request, job.sink.get());
    }
    ASSERT_TRUE(id.ok()) << id.status();
    if (between(0, 9) == 0) {
      job.cancelled = true;
      engine.Cancel(*id);
    }
  }
  for (Job& job : jobs) {
    const SequenceOutcome outcome = job.sink->Wait();
    const std::vector<TokenId> expected = FakeStage::Expected(
        stage, job.request.prompt_ids, job.request.sampling.seed, *job.request.max_new_tokens);
    if (!job.cancelled) {
      ASSERT_TRUE(outcome.status.ok()) << outcome.status;
      EXPECT_EQ(job.sink->tokens(), expected);
    } else {
      const std::vector<TokenId> tokens = job.sink->tokens();
      EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), expected.begin()));
    }
  }
  ExpectNothingHeld();
}

INSTANTIATE_TEST_SUITE_P(Seeds, WorkloadTest, ::testing::Range(0U, 60U));

}  // namespace
}  // namespace yangtuo
