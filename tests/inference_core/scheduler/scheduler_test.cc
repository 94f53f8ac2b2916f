#include "inference_core/scheduler/scheduler.h"

#include <map>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr StepLimits kRoomy{.step_tokens = 16,
                            .prompt_chunk = 0,
                            .max_running = 8,
                            .depth = 1,
                            .block_size = 4,
                            .free_blocks = 100};

// A sequence whose next token is to be computed.
ScheduledSequence Decoding(std::uint64_t id, std::int32_t tokens, std::int32_t priority = 0) {
  return {.id = id,
          .priority = priority,
          .known_tokens = tokens,
          .computed_tokens = tokens - 1,
          .blocks = (tokens - 1 + 3) / 4,
          .steps_in_flight = 0};
}

ScheduledSequence Waiting(std::uint64_t id, std::int32_t tokens, std::int32_t priority = 0) {
  return {.id = id,
          .priority = priority,
          .known_tokens = tokens,
          .computed_tokens = 0,
          .blocks = 0,
          .steps_in_flight = 0};
}

PlannedRows Rows(std::uint64_t id, std::int32_t tokens) { return {.id = id, .tokens = tokens}; }

TEST(PlanNextStepTest, DecodesEveryRunningSequenceBeforeAdmittingAnyPrompt) {
  const StepPlan plan = PlanNextStep({Decoding(1, 5), Decoding(2, 9)}, {Waiting(3, 40)}, kRoomy);
  EXPECT_THAT(plan.decode, ElementsAre(Rows(1, 1), Rows(2, 1)));
  EXPECT_THAT(plan.prompt, ElementsAre(Rows(3, 14)));
  EXPECT_THAT(plan.preempt, IsEmpty());
}

TEST(PlanNextStepTest, SplitsAPromptThatIsLongerThanTheTokenBudget) {
  EXPECT_THAT(PlanNextStep({}, {Waiting(1, 40)}, kRoomy).prompt, ElementsAre(Rows(1, 16)));
  ScheduledSequence half = Waiting(1, 40);
  half.computed_tokens = 32;
  half.blocks = 8;
  EXPECT_THAT(PlanNextStep({half}, {}, kRoomy).prompt, ElementsAre(Rows(1, 8)));
}

TEST(PlanNextStepTest, KeepsPromptChunksSmallWhenAsked) {
  StepLimits limits = kRoomy;
  limits.prompt_chunk = 5;
  EXPECT_THAT(PlanNextStep({}, {Waiting(1, 40), Waiting(2, 40)}, limits).prompt,
              ElementsAre(Rows(1, 5), Rows(2, 5)));
}

TEST(PlanNextStepTest, AdmitsHigherPriorityFirstAndThenTheOldest) {
  const StepPlan plan = PlanNextStep({}, {Waiting(3, 4), Waiting(1, 4), Waiting(2, 4, 7)}, kRoomy);
  EXPECT_THAT(plan.prompt, ElementsAre(Rows(2, 4), Rows(1, 4), Rows(3, 4)));
}

TEST(PlanNextStepTest, NobodyOvertakesThePromptThatDoesNotFitYet) {
  StepLimits limits = kRoomy;
  limits.free_blocks = 5;
  EXPECT_TRUE(PlanNextStep({}, {Waiting(1, 40), Waiting(2, 4)}, limits).empty());
}

TEST(PlanNextStepTest, StartsNoMoreThanMayRun) {
  StepLimits limits = kRoomy;
  limits.max_running = 2;
  EXPECT_THAT(PlanNextStep({Decoding(1, 5)}, {Waiting(2, 4), Waiting(3, 4)}, limits).prompt,
              ElementsAre(Rows(2, 4)));
}

TEST(PlanNextStepTest, PreemptsTheYoungestSequenceWhenBlocksRunOut) {
  StepLimits limits = kRoomy;
  limits.free_blocks = 0;
  // Both need a new block for their next position.
  const StepPlan plan = PlanNextStep({Decoding(1, 9), Decoding(2, 5)}, {}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(2));
  EXPECT_THAT(plan.decode, ElementsAre(Rows(1, 1)));
}

TEST(PlanNextStepTest, PreemptsTheLowestPriorityBeforeTheYoungest) {
  StepLimits limits = kRoomy;
  limits.free_blocks = 0;
  const StepPlan plan = PlanNextStep({Decoding(1, 5, -1), Decoding(2, 9)}, {}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(1));
  EXPECT_THAT(plan.decode, ElementsAre(Rows(2, 1)));
}

TEST(PlanNextStepTest, AdmitsNobodyInTheStepThatPreempts) {
  StepLimits limits = kRoomy;
  limits.free_blocks = 0;
  EXPECT_THAT(PlanNextStep({Decoding(1, 9), Decoding(2, 5)}, {Waiting(3, 4)}, limits).prompt,
              IsEmpty());
}

TEST(PlanNextStepTest, SequencesWhoseTokenIsOnItsWaySitOut) {
  ScheduledSequence awaiting = Decoding(1, 5);
  awaiting.computed_tokens = 5;
  awaiting.steps_in_flight = 1;
  EXPECT_THAT(PlanNextStep({awaiting, Decoding(2, 5)}, {}, kRoomy).decode, ElementsAre(Rows(2, 1)));
}

TEST(PlanNextStepTest, GivesEveryStageOfAPipelineItsShareOfTheDecodingSequences) {
  StepLimits limits = kRoomy;
  limits.depth = 3;
  const StepPlan plan = PlanNextStep(
      {Decoding(1, 5), Decoding(2, 5), Decoding(3, 5), Decoding(4, 5), Decoding(5, 5)}, {}, limits);
  EXPECT_THAT(plan.decode, ElementsAre(Rows(1, 1), Rows(2, 1)));
}

// Runs sequences to their end under random limits. Whatever happens, a plan keeps its limits and
// everybody ends.
TEST(PlanNextStepTest, EverybodyEndsUnderAnyLimits) {
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const auto between = [&](std::int32_t low, std::int32_t high) {
      return std::uniform_int_distribution<std::int32_t>(low, high)(random);
    };
    StepLimits limits{.step_tokens = between(1, 20),
                      .prompt_chunk = between(0, 6),
                      .max_running = 1,
                      .depth = 1,
                      .block_size = between(1, 5),
                      .free_blocks = 0};
    limits.max_running = between(1, limits.step_tokens);
    const std::int32_t total_blocks = (40 + limits.block_size - 1) / limits.block_size;
    struct Life {
      ScheduledSequence state;
      std::int32_t end = 0;
      bool running = false;
    };
    std::map<std::uint64_t, Life> lives;
    for (std::uint64_t id = 1; id <= 12; ++id) {
      const std::int32_t prompt = between(1, 20);
      lives[id] = {Waiting(id, prompt, between(-1, 1)), prompt + between(1, 20), false};
    }
    int steps = 0;
    while (!lives.empty()) {
      ASSERT_LT(++steps, 20000) << "seed " << seed << ": nobody makes progress";
      std::vector<ScheduledSequence> running;
      std::vector<ScheduledSequence> waiting;
      limits.free_blocks = total_blocks;
      for (const auto& [id, life] : lives) {
        (life.running ? running : waiting).push_back(life.state);
        limits.free_blocks -= life.state.blocks;
      }
      const StepPlan plan = PlanNextStep(running, waiting, limits);
      ASSERT_FALSE(plan.empty()) << "seed " << seed;
      for (const std::uint64_t id : plan.preempt) {
        limits.free_blocks += lives.at(id).state.blocks;
        lives.at(id).state.blocks = lives.at(id).state.computed_tokens = 0;
        lives.at(id).running = false;
      }
      std::int32_t rows = 0;
      for (const auto* list : {&plan.decode, &plan.prompt}) {
        for (const PlannedRows& planned : *list) {
          Life& life = lives.at(planned.id);
          life.running = true;
          life.state.computed_tokens += planned.tokens;
          const std::int32_t blocks =
              (life.state.computed_tokens + limits.block_size - 1) / limits.block_size;
          limits.free_blocks -= std::max(blocks - life.state.blocks, 0);
          life.state.blocks = std::max(blocks, life.state.blocks);
          ASSERT_LE(life.state.computed_tokens, life.state.known_tokens);
          rows += planned.tokens;
          if (life.state.computed_tokens == life.state.known_tokens &&
              ++life.state.known_tokens >= life.end) {
            limits.free_blocks += life.state.blocks;
            lives.erase(planned.id);
          }
        }
      }
      ASSERT_LE(rows, limits.step_tokens);
      ASSERT_GE(limits.free_blocks, 0);
    }
  }
}

}  // namespace
}  // namespace yangtuo
