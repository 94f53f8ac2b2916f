#include "inference_core/scheduler/scheduler.h"

#include <cstdint>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::int32_t kBlockSize = 4;

// Plenty of everything; tests name what they make scarce.
StepLimits Limits() {
  return {.step_tokens = 64,
          .prompt_chunk = 0,
          .max_running = 16,
          .depth = 1,
          .block_size = kBlockSize,
          .free_blocks = 100};
}

// `computed` positions are in blocks and the token after them is known.
ScheduledSequence Decoding(std::uint64_t id, std::int32_t computed) {
  return {.id = id,
          .known_tokens = computed + 1,
          .computed_tokens = computed,
          .blocks = (computed + kBlockSize - 1) / kBlockSize};
}

// Its next token is being computed.
ScheduledSequence Awaiting(std::uint64_t id, std::int32_t computed) {
  ScheduledSequence s = Decoding(id, computed);
  s.known_tokens = computed;
  s.steps_in_flight = 1;
  return s;
}

ScheduledSequence Prompt(std::uint64_t id, std::int32_t tokens, std::int32_t computed = 0) {
  return {.id = id,
          .known_tokens = tokens,
          .computed_tokens = computed,
          .blocks = (computed + kBlockSize - 1) / kBlockSize};
}

TEST(PlanNextStepTest, NothingToDoGivesAnEmptyPlan) {
  EXPECT_TRUE(PlanNextStep({}, {}, Limits()).empty());
  EXPECT_TRUE(PlanNextStep({Awaiting(1, 5)}, {}, Limits()).empty());
}

TEST(PlanNextStepTest, DecodesEveryRunningSequenceBeforeAnyPrompt) {
  StepLimits limits = Limits();
  limits.step_tokens = 5;
  const StepPlan plan =
      PlanNextStep({Prompt(1, 20, 4), Decoding(2, 7), Decoding(3, 9)}, {Prompt(4, 10)}, limits);
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{2, 1}, PlannedRows{3, 1}));
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 3}));
}

TEST(PlanNextStepTest, LeavesSequencesAloneWhoseTokenIsOnItsWay) {
  const StepPlan plan = PlanNextStep({Awaiting(1, 6), Decoding(2, 6)}, {}, Limits());
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{2, 1}));
}

TEST(PlanNextStepTest, SplitsAPromptThatIsLongerThanTheTokenBudget) {
  StepLimits limits = Limits();
  limits.step_tokens = 8;
  const StepPlan first = PlanNextStep({}, {Prompt(1, 20)}, limits);
  EXPECT_THAT(first.prompt, ElementsAre(PlannedRows{1, 8}));
  const StepPlan last = PlanNextStep({Prompt(1, 20, 16)}, {}, limits);
  EXPECT_THAT(last.prompt, ElementsAre(PlannedRows{1, 4}));
}

TEST(PlanNextStepTest, PromptChunkLimitsEverySequenceByItself) {
  StepLimits limits = Limits();
  limits.prompt_chunk = 6;
  const StepPlan plan = PlanNextStep({Prompt(1, 20, 4)}, {Prompt(2, 20), Prompt(3, 5)}, limits);
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 6}, PlannedRows{2, 6}, PlannedRows{3, 5}));
}

TEST(PlanNextStepTest, PromptOfOneTokenStarts) {
  EXPECT_THAT(PlanNextStep({}, {Prompt(1, 1)}, Limits()).prompt, ElementsAre(PlannedRows{1, 1}));
}

TEST(PlanNextStepTest, AdmitsByPriorityAndThenByArrival) {
  StepLimits limits = Limits();
  limits.max_running = 3;
  ScheduledSequence urgent = Prompt(9, 3);
  urgent.priority = 1;
  ScheduledSequence later = Prompt(1, 3);
  later.priority = -1;
  const StepPlan plan = PlanNextStep({}, {later, Prompt(5, 3), urgent, Prompt(4, 3)}, limits);
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{9, 3}, PlannedRows{4, 3}, PlannedRows{5, 3}));
}

TEST(PlanNextStepTest, NeverRunsMoreThanAllowed) {
  StepLimits limits = Limits();
  limits.max_running = 2;
  const StepPlan plan = PlanNextStep({Decoding(1, 5)}, {Prompt(2, 3), Prompt(3, 3)}, limits);
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{2, 3}));
}

TEST(PlanNextStepTest, NobodyOvertakesAPromptThatDoesNotFitYet) {
  StepLimits limits = Limits();
  limits.free_blocks = 5;
  const StepPlan plan = PlanNextStep({Decoding(1, 5)}, {Prompt(2, 30), Prompt(3, 2)}, limits);
  EXPECT_THAT(plan.decode, SizeIs(1));
  EXPECT_THAT(plan.prompt, IsEmpty());
}

TEST(PlanNextStepTest, AdmissionLeavesRoomForWhatRunningPromptsStillNeed) {
  StepLimits limits = Limits();
  limits.step_tokens = 4;
  limits.prompt_chunk = 2;
  limits.free_blocks = 6;
  // Sequence 1 needs 3 blocks more for its prompt and one to decode: 2 remain.
  EXPECT_THAT(PlanNextStep({Prompt(1, 16, 4)}, {Prompt(2, 9)}, limits).prompt,
              ElementsAre(PlannedRows{1, 2}));
  EXPECT_THAT(PlanNextStep({Prompt(1, 16, 4)}, {Prompt(2, 8)}, limits).prompt,
              ElementsAre(PlannedRows{1, 2}, PlannedRows{2, 2}));
}

TEST(PlanNextStepTest, SequenceThatNeedsAllBlocksStartsWhenItIsAlone) {
  StepLimits limits = Limits();
  limits.free_blocks = 5;
  EXPECT_THAT(PlanNextStep({}, {Prompt(1, 20)}, limits).prompt, ElementsAre(PlannedRows{1, 20}));
}

TEST(PlanNextStepTest, PreemptsTheYoungestSequenceWhenBlocksRunOut) {
  StepLimits limits = Limits();
  limits.free_blocks = 0;
  const StepPlan plan =
      PlanNextStep({Decoding(3, 5), Decoding(1, 8), Decoding(2, 6)}, {Prompt(4, 1)}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(3));
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{1, 1}, PlannedRows{2, 1}));
  EXPECT_THAT(plan.prompt, IsEmpty()) << "no admission in a step that preempts";
}

TEST(PlanNextStepTest, PreemptsTheLowestPriorityBeforeTheYoungest) {
  StepLimits limits = Limits();
  limits.free_blocks = 0;
  ScheduledSequence low = Decoding(1, 8);
  low.priority = -1;
  const StepPlan plan = PlanNextStep({low, Decoding(2, 8), Decoding(3, 6)}, {}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(1));
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{2, 1}, PlannedRows{3, 1}));
}

TEST(PlanNextStepTest, PreemptsASequenceWhoseTokenIsOnItsWay) {
  StepLimits limits = Limits();
  limits.free_blocks = 0;
  EXPECT_THAT(PlanNextStep({Decoding(1, 8), Awaiting(2, 6)}, {}, limits).preempt, ElementsAre(2));
}

TEST(PlanNextStepTest, LastInLineSitsTheStepOutInsteadOfLosingItsBlocks) {
  StepLimits limits = Limits();
  limits.free_blocks = 0;
  const StepPlan plan = PlanNextStep({Awaiting(1, 6), Decoding(2, 8)}, {}, limits);
  EXPECT_TRUE(plan.empty());
  EXPECT_THAT(plan.preempt, IsEmpty());
}

TEST(PlanNextStepTest, OlderPromptTakesThePlaceOfAYoungerDecodeRow) {
  StepLimits limits = Limits();
  limits.free_blocks = 0;
  const StepPlan plan = PlanNextStep({Prompt(1, 20, 8), Decoding(2, 6)}, {}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(2));
  EXPECT_THAT(plan.decode, IsEmpty());
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 8})) << "the two blocks that were freed";
}

TEST(PlanNextStepTest, PromptTakesWhatFitsBeforeItPreempts) {
  StepLimits limits = Limits();
  limits.free_blocks = 1;
  const StepPlan plan = PlanNextStep({Prompt(1, 20, 8), Decoding(2, 6)}, {}, limits);
  EXPECT_THAT(plan.preempt, IsEmpty());
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 4}));
}

TEST(PlanNextStepTest, PreemptedSequenceWaitsForItsStepsInFlight) {
  ScheduledSequence preempted = Prompt(1, 10);
  preempted.steps_in_flight = 1;
  EXPECT_TRUE(PlanNextStep({}, {preempted, Prompt(2, 3)}, Limits()).empty());
  preempted.steps_in_flight = 0;
  EXPECT_THAT(PlanNextStep({}, {preempted, Prompt(2, 3)}, Limits()).prompt, SizeIs(2));
}

TEST(PlanNextStepTest, DividesDecodingSequencesOverTheStepsInFlight) {
  StepLimits limits = Limits();
  limits.depth = 2;
  EXPECT_THAT(PlanNextStep({Decoding(1, 5), Decoding(2, 5), Decoding(3, 5)}, {}, limits).decode,
              ElementsAre(PlannedRows{1, 1}, PlannedRows{2, 1}));
  EXPECT_THAT(PlanNextStep({Awaiting(1, 6), Awaiting(2, 6), Decoding(3, 5)}, {}, limits).decode,
              ElementsAre(PlannedRows{3, 1}));
}

TEST(PlanNextStepTest, NextChunkOfAPromptFollowsWhileTheLastOneIsInFlight) {
  StepLimits limits = Limits();
  limits.depth = 2;
  limits.step_tokens = 8;
  ScheduledSequence prompt = Prompt(1, 20, 8);
  prompt.steps_in_flight = 1;
  EXPECT_THAT(PlanNextStep({prompt}, {}, limits).prompt, ElementsAre(PlannedRows{1, 8}));
}

}  // namespace
}  // namespace yangtuo
