#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/engine/engine.h"
#include "tests/inference_core/engine/collector.h"
#include "tests/testing/fake_stage.h"

namespace yangtuo {
namespace {

using std::chrono::seconds;
using testing::Collector;
using testing::FakeStage;
using testing::Request;

struct Job {
  EngineRequest request;
  std::vector<TokenId> expected;  // without the resumed ones
  SequenceId id = 0;
  bool cancelled = false;
  std::unique_ptr<Collector> sink = std::make_unique<Collector>();
};

// One seed, one workload: stage, limits and requests.
class Workload {
 public:
  explicit Workload(std::uint32_t seed) : random_(seed) {
    stage_ = {.context_tokens = 128,
              .kv_blocks = Between(32, 80),
              .kv_block_size = 4,
              .max_step_tokens = 64,
              .depth = Between(1, 4)};
    for (int i = Between(0, 3); i > 0; --i) {
      stage_.lost_at.insert(Between(5, 200));
    }
    stage_.failing_resets = Between(0, 2);
    options_ = {.step_tokens = Between(2, 64),
                .target_step = std::chrono::microseconds(Between(0, 2) * Between(0, 50)),
                .least_prompt_rows = Between(1, 20),
                .prompt_chunk = Between(0, 9),
                .max_running = Between(1, 32),
                .prefix_cache = OneIn(4) ? PrefixCache::kOff : PrefixCache::kOn,
                .recovery_pause = std::chrono::milliseconds(1)};
  }

  [[nodiscard]] const FakeStage::Options& stage() const { return stage_; }
  [[nodiscard]] const EngineOptions& options() const { return options_; }

  bool OneIn(std::int32_t n) { return Between(1, n) == 1; }

  Job NextJob() {
    Job job;
    std::vector<TokenId> prompt(static_cast<std::size_t>(Between(1, 60)));
    std::generate(prompt.begin(), prompt.end(), [&] { return Between(0, stage_.vocab - 1); });
    // Many begin as an earlier one, with its answer or without.
    if (!earlier_.empty() && !OneIn(3)) {
      const auto pick = static_cast<std::size_t>(Between(0, static_cast<int>(earlier_.size()) - 1));
      const auto& other = earlier_[pick];
      const auto common =
          std::min<std::size_t>(static_cast<std::size_t>(Between(1, 60)), other.size());
      prompt.insert(prompt.begin(), other.begin(),
                    other.begin() + static_cast<std::ptrdiff_t>(common));
      prompt.resize(std::min<std::size_t>(prompt.size(), 60));
    }
    job.request =
        Request(std::move(prompt), Between(1, 60), static_cast<std::uint64_t>(Between(1, 3)));
    job.request.priority = Between(-1, 1);
    job.request.tenant = OneIn(2) ? "" : "other";
    job.request.cache_salt = OneIn(5) ? "salt" : "";
    job.request.prompt_logprobs = OneIn(4);
    job.expected = FakeStage::Expected(stage_, job.request.prompt_ids, job.request.sampling.seed,
                                       *job.request.max_new_tokens);
    earlier_.push_back(job.request.prompt_ids);
    earlier_.back().insert(earlier_.back().end(), job.expected.begin(), job.expected.end());
    if (OneIn(4)) {
      const auto middle = job.expected.begin() + Between(0, *job.request.max_new_tokens);
      job.request.resumed_ids = {job.expected.begin(), middle};
      job.expected.erase(job.expected.begin(), middle);
    }
    return job;
  }

 private:
  std::int32_t Between(std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random_);
  }

  std::mt19937 random_;
  FakeStage::Options stage_;
  EngineOptions options_;
  std::vector<std::vector<TokenId>> earlier_;  // prompts and answers
};

void CheckJob(Job& job) {
  const SequenceOutcome outcome = job.sink->Wait();
  const std::vector<TokenId> tokens = job.sink->tokens();
  if (job.cancelled && !outcome.status.ok()) {
    EXPECT_EQ(outcome.status.code(), absl::StatusCode::kCancelled);
    ASSERT_LE(tokens.size(), job.expected.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), job.expected.begin()));
    return;
  }
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(tokens, job.expected);
  if (job.request.prompt_logprobs && !job.expected.empty()) {
    const std::vector<TokenId>& prompt = job.request.prompt_ids;
    EXPECT_EQ(job.sink->prompt(), std::vector<TokenId>(prompt.begin() + 1, prompt.end()));
  }
}

void ExpectNothingHeld(Engine& engine) {
  ASSERT_TRUE(engine.WaitUntilIdle(std::chrono::steady_clock::now() + seconds(20)));
  const EngineLoad load = engine.load();
  EXPECT_EQ(load.running, 0);
  EXPECT_EQ(load.waiting, 0);
  EXPECT_EQ(load.kv_blocks_free, load.kv_blocks_total);
  EXPECT_EQ(load.pending_prompt_tokens, 0);
}

class WorkloadTest : public ::testing::TestWithParam<std::uint32_t> {};

// Whatever the limits, the other requests, lost shards, cancellations, and blocks that others
// filled: every request gives the tokens that it gives alone, each exactly once, and nothing stays
// held.
TEST_P(WorkloadTest, GivesTheSameTokensAsAlone) {
  Workload workload(GetParam());
  const SteadyClock clock;
  auto engine =
      Engine::Create(workload.options(), std::make_unique<FakeStage>(workload.stage()), clock, {});
  ASSERT_TRUE(engine.ok()) << engine.status();

  std::vector<Job> jobs;
  for (int i = 0; i < 40; ++i) {
    Job& job = jobs.emplace_back(workload.NextJob());
    // A lost shard refuses new requests for a moment: try again until it is back.
    absl::StatusOr<SequenceId> id = absl::UnavailableError("");
    while (absl::IsUnavailable(id.status())) {
      id = (*engine)->Submit(job.request, job.sink.get());
    }
    ASSERT_TRUE(id.ok()) << id.status();
    job.id = *id;
    job.cancelled = workload.OneIn(6);
    if (job.cancelled && workload.OneIn(2)) {
      (*engine)->Cancel(job.id);
    }
  }
  for (Job& job : jobs) {
    if (job.cancelled) {
      job.sink->WaitForTokens(job.expected.size() / 2);
      (*engine)->Cancel(job.id);
    }
  }
  for (Job& job : jobs) {
    CheckJob(job);
  }
  ExpectNothingHeld(**engine);
}

INSTANTIATE_TEST_SUITE_P(Seeds, WorkloadTest, ::testing::Range(0U, 60U));

TEST(PreemptionTest, HappensAndChangesNoToken) {
  // The first step waits until all of the requests are there: they start together however slowly
  // this thread submits them.
  std::promise<void> open;
  std::shared_future<void> gate = open.get_future().share();
  const FakeStage::Options stage{
      .kv_blocks = 40, .kv_block_size = 4, .depth = 3, .before_next = [gate] { gate.wait(); }};
  const SteadyClock clock;
  std::atomic<std::int32_t> preempted = 0;
  auto engine = Engine::Create({.step_tokens = 32}, std::make_unique<FakeStage>(stage), clock,
                               [&](const StepStats& step) { preempted += step.preempted; });
  ASSERT_TRUE(engine.ok());
  std::vector<Collector> sinks(10);
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    const auto first = static_cast<TokenId>(i);
    ASSERT_TRUE((*engine)->Submit(Request({first, 7}, 100), &sinks[i]).ok());
  }
  open.set_value();
  for (std::size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_TRUE(sinks[i].Wait().status.ok());
    EXPECT_EQ(sinks[i].tokens(), FakeStage::Expected(stage, {static_cast<TokenId>(i), 7}, 1, 100));
  }
  EXPECT_GT(preempted.load(), 0);
  ExpectNothingHeld(**engine);
}

}  // namespace
}  // namespace yangtuo
