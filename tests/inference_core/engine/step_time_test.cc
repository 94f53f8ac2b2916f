// How long a stream waits for its next token while a long prompt is computed, and how long the
// prompt takes, on a machine whose steps cost what the test says.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/engine/engine.h"
#include "tests/inference_core/engine/collector.h"
#include "tests/inference_core/engine/set_clock.h"
#include "tests/testing/fake_stage.h"

namespace yangtuo {
namespace {

using testing::Collector;
using testing::FakeStage;
using testing::Request;
using testing::SetClock;

struct Machine {
  double step_seconds = 0.0;
  double row_seconds = 0.0;
};

// One stream that decodes all the time, and from its 20th step on a prompt of 2000 tokens beside
// it. Returns what the steps did.
std::vector<StepStats> RunStreamAndLongPrompt(const Machine& machine, Duration target) {
  SetClock clock;
  std::vector<StepStats> stats;
  Collector stream;
  Collector late;
  std::vector<TokenId> prompt(2000);
  std::iota(prompt.begin(), prompt.end(), 1);
  std::unique_ptr<Engine> engine;
  std::int64_t rows = 0;
  std::int32_t results = 0;
  const FakeStage::Options stage{
      .vocab = 5000,
      .context_tokens = 4096,
      .kv_blocks = 256,
      .kv_block_size = 32,
      .max_step_tokens = 256,
      .on_submit = [&rows](const Step& step) { rows = step.num_tokens(); },
      .before_next =
          [&] {
            const double cost =
                machine.step_seconds + machine.row_seconds * static_cast<double>(rows);
            clock.Advance(
                std::chrono::duration_cast<Duration>(std::chrono::duration<double>(cost)));
            if (++results == 20) {
              EXPECT_TRUE(engine->Submit(Request(prompt, 1), &late).ok());
            }
          }};
  auto created = Engine::Create({.step_tokens = 256, .target_step = target},
                                std::make_unique<FakeStage>(stage), clock,
                                [&stats](const StepStats& step) { stats.push_back(step); });
  EXPECT_TRUE(created.ok()) << created.status();
  engine = *std::move(created);
  EXPECT_TRUE(engine->Submit(Request({3}, 400), &stream).ok());
  EXPECT_TRUE(stream.Wait().status.ok());
  EXPECT_TRUE(late.Wait().status.ok());
  engine.reset();
  return stats;
}

std::vector<StepStats> MixedSteps(const std::vector<StepStats>& stats) {
  std::vector<StepStats> mixed;
  std::copy_if(stats.begin(), stats.end(), std::back_inserter(mixed),
               [](const StepStats& step) { return step.decode_rows > 0 && step.prompt_rows > 0; });
  return mixed;
}

TEST(StepTimeTest, LongPromptKeepsStreamsWithinTheTarget) {
  const Machine machine{.step_seconds = 0.05, .row_seconds = 0.004};
  const std::vector<StepStats> mixed =
      MixedSteps(RunStreamAndLongPrompt(machine, std::chrono::milliseconds(200)));
  std::int64_t prompt_rows = 0;
  for (const StepStats& step : mixed) {
    EXPECT_LE(ToSeconds(step.total), 0.21);
    EXPECT_EQ(step.decode_rows, 1) << "the stream gets its token in every step";
    prompt_rows += step.prompt_rows;
  }
  EXPECT_EQ(prompt_rows, 2000);
  // 36 rows fill the target; the first steps learn it.
  EXPECT_LE(mixed.size(), 2000U / 36 + 10);
}

TEST(StepTimeTest, WithoutATargetAPromptTakesAllRows) {
  const Machine machine{.step_seconds = 0.05, .row_seconds = 0.004};
  const std::vector<StepStats> mixed =
      MixedSteps(RunStreamAndLongPrompt(machine, Duration::zero()));
  ASSERT_FALSE(mixed.empty());
  EXPECT_EQ(mixed.front().prompt_rows, 255);
}

TEST(StepTimeTest, PromptAdvancesOnAMachineThatCannotKeepTheTarget) {
  const Machine machine{.step_seconds = 0.5, .row_seconds = 0.004};
  const std::vector<StepStats> mixed =
      MixedSteps(RunStreamAndLongPrompt(machine, std::chrono::milliseconds(200)));
  ASSERT_EQ(mixed.size(), 2000U / 16);
  for (const StepStats& step : mixed) {
    EXPECT_EQ(step.prompt_rows, 16);
  }
}

}  // namespace
}  // namespace yangtuo
