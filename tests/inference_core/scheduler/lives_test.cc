#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/scheduler/scheduler.h"

namespace yangtuo {
namespace {

struct Life {
  ScheduledSequence state;
  std::int32_t end = 0;  // known tokens at which it is over
  bool running = false;
};

// Carries plans out as an engine with `depth` steps in flight does, in numbers only, and checks
// every plan against the limits.
class Simulation {
 public:
  explicit Simulation(std::uint32_t seed) : random_(seed) {
    limits_ = {.step_tokens = Between(1, 20),
               .prompt_chunk = Between(0, 6),
               .prompt_tokens = Between(1, 20),
               .prompt_reserve = 0,
               .max_running = 1,
               .depth = Between(1, 4),
               .block_size = Between(1, 5),
               .free_blocks = 0};
    limits_.prompt_reserve = Between(0, limits_.step_tokens - 1);
    limits_.max_running =
        Between(1, (limits_.step_tokens - limits_.prompt_reserve) * limits_.depth);
    // The longest sequence just fits.
    limits_.free_blocks = CeilDivide(40, limits_.block_size);
    for (std::uint64_t id = 1; id <= 12; ++id) {
      const std::int32_t prompt = Between(1, 20);
      lives_[id] = {.state = {.id = id,
                              .priority = Between(-1, 1),
                              .known_tokens = prompt,
                              .tenant = static_cast<std::uint32_t>(Between(0, 2)),
                              .tenant_served = static_cast<double>(Between(0, 30))},
                    .end = prompt + Between(1, 20)};
    }
  }

  [[nodiscard]] bool over() const { return lives_.empty(); }

  // Fills the pipeline, then takes the oldest result.
  void Round() {
    while (static_cast<std::int32_t>(in_flight_.size()) < limits_.depth && Submit()) {
    }
    ASSERT_FALSE(in_flight_.empty()) << "nothing runs and nothing can start";
    TakeResult();
  }

 private:
  struct Part {
    std::uint64_t id;
    bool gives_token;
  };

  static std::int32_t CeilDivide(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }
  std::int32_t Between(std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random_);
  }

  bool Submit() {
    std::vector<ScheduledSequence> running;
    std::vector<ScheduledSequence> waiting;
    for (const auto& [id, life] : lives_) {
      (life.running ? running : waiting).push_back(life.state);
    }
    std::shuffle(running.begin(), running.end(), random_);
    std::shuffle(waiting.begin(), waiting.end(), random_);
    const StepPlan plan = PlanNextStep(running, waiting, limits_);
    for (const std::uint64_t id : plan.preempt) {
      Preempt(id, running);
    }
    std::int32_t rows = 0;
    std::vector<Part> parts;
    for (const auto* list : {&plan.decode, &plan.prompt}) {
      for (const PlannedRows& planned : *list) {
        rows += planned.tokens;
        parts.push_back(Advance(planned));
      }
    }
    EXPECT_LE(rows, limits_.step_tokens);
    EXPECT_GE(limits_.free_blocks, 0);
    EXPECT_LE(std::count_if(lives_.begin(), lives_.end(),
                            [](const auto& entry) { return entry.second.running; }),
              limits_.max_running);
    if (!plan.empty()) {
      in_flight_.push_back(std::move(parts));
    }
    return !plan.empty();
  }

  void Preempt(std::uint64_t id, const std::vector<ScheduledSequence>& running) {
    Life& life = lives_.at(id);
    EXPECT_TRUE(life.running);
    const bool first_in_line =
        std::all_of(running.begin(), running.end(), [&life](const ScheduledSequence& other) {
          return life.state.priority > other.priority ||
                 (life.state.priority == other.priority && life.state.id <= other.id);
        });
    EXPECT_FALSE(first_in_line) << "the first in line lost its blocks";
    limits_.free_blocks += life.state.blocks;
    life.state.blocks = 0;
    life.state.computed_tokens = 0;
    life.state.preempted = true;
    life.running = false;
  }

  Part Advance(const PlannedRows& planned) {
    Life& life = lives_.at(planned.id);
    ScheduledSequence& state = life.state;
    EXPECT_GT(planned.tokens, 0);
    EXPECT_TRUE(life.running || state.steps_in_flight == 0) << "started over too early";
    life.running = true;
    state.computed_tokens += planned.tokens;
    state.steps_in_flight += 1;
    EXPECT_LE(state.computed_tokens, state.known_tokens);
    const std::int32_t missing =
        std::max(CeilDivide(state.computed_tokens, limits_.block_size) - state.blocks, 0);
    state.blocks += missing;
    limits_.free_blocks -= missing;
    return {.id = planned.id, .gives_token = state.computed_tokens == state.known_tokens};
  }

  void TakeResult() {
    for (const Part& part : in_flight_.front()) {
      Life& life = lives_.at(part.id);
      life.state.steps_in_flight -= 1;
      if (part.gives_token && ++life.state.known_tokens >= life.end) {
        limits_.free_blocks += life.state.blocks;
        lives_.erase(part.id);
      }
    }
    in_flight_.pop_front();
  }

  std::mt19937 random_;
  PlanLimits limits_;
  std::map<std::uint64_t, Life> lives_;
  std::deque<std::vector<Part>> in_flight_;
};

class LivesTest : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(LivesTest, EverybodyEndsAndEveryPlanKeepsTheLimits) {
  // 100 workloads a case: cheap to run, quick to find.
  for (std::uint32_t i = 0; i < 100; ++i) {
    SCOPED_TRACE(GetParam() * 100 + i);
    Simulation simulation(GetParam() * 100 + i);
    for (int round = 0; !simulation.over(); ++round) {
      ASSERT_LT(round, 20000) << "nobody makes progress";
      simulation.Round();
      ASSERT_FALSE(HasFailure());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Hundreds, LivesTest, ::testing::Range(0U, 10U));

}  // namespace
}  // namespace yangtuo
