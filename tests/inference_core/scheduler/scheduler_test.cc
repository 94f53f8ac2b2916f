#include "inference_core/scheduler/scheduler.h"

#include <cstdint>
#include <map>
#include <span>
#include <utility>
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
PlanLimits Limits() {
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
  PlanLimits limits = Limits();
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
  PlanLimits limits = Limits();
  limits.step_tokens = 8;
  const StepPlan first = PlanNextStep({}, {Prompt(1, 20)}, limits);
  EXPECT_THAT(first.prompt, ElementsAre(PlannedRows{1, 8}));
  const StepPlan last = PlanNextStep({Prompt(1, 20, 16)}, {}, limits);
  EXPECT_THAT(last.prompt, ElementsAre(PlannedRows{1, 4}));
}

TEST(PlanNextStepTest, PromptChunkLimitsEverySequenceByItself) {
  PlanLimits limits = Limits();
  limits.prompt_chunk = 6;
  const StepPlan plan = PlanNextStep({Prompt(1, 20, 4)}, {Prompt(2, 20), Prompt(3, 5)}, limits);
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 6}, PlannedRows{2, 6}, PlannedRows{3, 5}));
}

TEST(PlanNextStepTest, PromptOfOneTokenStarts) {
  EXPECT_THAT(PlanNextStep({}, {Prompt(1, 1)}, Limits()).prompt, ElementsAre(PlannedRows{1, 1}));
}

TEST(PlanNextStepTest, AdmitsByPriorityAndThenByArrival) {
  PlanLimits limits = Limits();
  limits.max_running = 3;
  ScheduledSequence urgent = Prompt(9, 3);
  urgent.priority = 1;
  ScheduledSequence later = Prompt(1, 3);
  later.priority = -1;
  const StepPlan plan = PlanNextStep({}, {later, Prompt(5, 3), urgent, Prompt(4, 3)}, limits);
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{9, 3}, PlannedRows{4, 3}, PlannedRows{5, 3}));
}

TEST(PlanNextStepTest, NeverRunsMoreThanAllowed) {
  PlanLimits limits = Limits();
  limits.max_running = 2;
  const StepPlan plan = PlanNextStep({Decoding(1, 5)}, {Prompt(2, 3), Prompt(3, 3)}, limits);
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{2, 3}));
}

TEST(PlanNextStepTest, NobodyOvertakesAPromptThatDoesNotFitYet) {
  PlanLimits limits = Limits();
  limits.free_blocks = 5;
  const StepPlan plan = PlanNextStep({Decoding(1, 5)}, {Prompt(2, 30), Prompt(3, 2)}, limits);
  EXPECT_THAT(plan.decode, SizeIs(1));
  EXPECT_THAT(plan.prompt, IsEmpty());
}

TEST(PlanNextStepTest, AdmissionLeavesRoomForWhatRunningPromptsStillNeed) {
  PlanLimits limits = Limits();
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
  PlanLimits limits = Limits();
  limits.free_blocks = 5;
  EXPECT_THAT(PlanNextStep({}, {Prompt(1, 20)}, limits).prompt, ElementsAre(PlannedRows{1, 20}));
}

TEST(PlanNextStepTest, PreemptsTheYoungestSequenceWhenBlocksRunOut) {
  PlanLimits limits = Limits();
  limits.free_blocks = 0;
  const StepPlan plan =
      PlanNextStep({Decoding(3, 5), Decoding(1, 8), Decoding(2, 6)}, {Prompt(4, 1)}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(3));
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{1, 1}, PlannedRows{2, 1}));
  EXPECT_THAT(plan.prompt, IsEmpty()) << "no admission in a step that preempts";
}

TEST(PlanNextStepTest, PreemptsTheLowestPriorityBeforeTheYoungest) {
  PlanLimits limits = Limits();
  limits.free_blocks = 0;
  ScheduledSequence low = Decoding(1, 8);
  low.priority = -1;
  const StepPlan plan = PlanNextStep({low, Decoding(2, 8), Decoding(3, 6)}, {}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(1));
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{2, 1}, PlannedRows{3, 1}));
}

TEST(PlanNextStepTest, PreemptsASequenceWhoseTokenIsOnItsWay) {
  PlanLimits limits = Limits();
  limits.free_blocks = 0;
  EXPECT_THAT(PlanNextStep({Decoding(1, 8), Awaiting(2, 6)}, {}, limits).preempt, ElementsAre(2));
}

TEST(PlanNextStepTest, LastInLineSitsTheStepOutInsteadOfLosingItsBlocks) {
  PlanLimits limits = Limits();
  limits.free_blocks = 0;
  const StepPlan plan = PlanNextStep({Awaiting(1, 6), Decoding(2, 8)}, {}, limits);
  EXPECT_TRUE(plan.empty());
  EXPECT_THAT(plan.preempt, IsEmpty());
}

TEST(PlanNextStepTest, OlderPromptTakesThePlaceOfAYoungerDecodeRow) {
  PlanLimits limits = Limits();
  limits.free_blocks = 0;
  const StepPlan plan = PlanNextStep({Prompt(1, 20, 8), Decoding(2, 6)}, {}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(2));
  EXPECT_THAT(plan.decode, IsEmpty());
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 8})) << "the two blocks that were freed";
}

TEST(PlanNextStepTest, PromptTakesWhatFitsBeforeItPreempts) {
  PlanLimits limits = Limits();
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
  PlanLimits limits = Limits();
  limits.depth = 2;
  EXPECT_THAT(PlanNextStep({Decoding(1, 5), Decoding(2, 5), Decoding(3, 5)}, {}, limits).decode,
              ElementsAre(PlannedRows{1, 1}, PlannedRows{2, 1}));
  EXPECT_THAT(PlanNextStep({Awaiting(1, 6), Awaiting(2, 6), Decoding(3, 5)}, {}, limits).decode,
              ElementsAre(PlannedRows{3, 1}));
}

TEST(PlanNextStepTest, NextChunkOfAPromptFollowsWhileTheLastOneIsInFlight) {
  PlanLimits limits = Limits();
  limits.depth = 2;
  limits.step_tokens = 8;
  ScheduledSequence prompt = Prompt(1, 20, 8);
  prompt.steps_in_flight = 1;
  EXPECT_THAT(PlanNextStep({prompt}, {}, limits).prompt, ElementsAre(PlannedRows{1, 8}));
}

// Plans with an answer for every waiting sequence's question.
StepPlan PlanWithReuse(std::vector<ScheduledSequence> running,
                       std::vector<ScheduledSequence> waiting, const PlanLimits& limits,
                       const std::map<std::uint64_t, Reusable>& reusable) {
  PlanInput input{.running = std::move(running),
                  .waiting = std::move(waiting),
                  .limits = limits,
                  .find_reusable = [&](std::uint64_t id, std::span<const std::uint64_t>) {
                    const auto found = reusable.find(id);
                    return found == reusable.end() ? Reusable{} : found->second;
                  }};
  StepPlan plan;
  PlanNextStep(input, plan);
  return plan;
}

TEST(PrefixReusePlanTest, ReusableTokensCostNoRows) {
  PlanLimits limits = Limits();
  limits.step_tokens = 8;
  const StepPlan plan = PlanWithReuse({}, {Prompt(1, 20), Prompt(2, 20)}, limits,
                                      {{1, {.tokens = 16, .free_blocks = 4, .next_block = 0}}});
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 4}, PlannedRows{2, 4}));
}

TEST(PrefixReusePlanTest, BlocksThatOthersHoldNeedNotBeFree) {
  PlanLimits limits = Limits();
  limits.free_blocks = 3;
  // Six blocks are needed: one for the running sequence, five for the prompt.
  EXPECT_THAT(PlanWithReuse({Decoding(1, 5)}, {Prompt(2, 20)}, limits, {}).prompt, IsEmpty());
  EXPECT_THAT(PlanWithReuse({Decoding(1, 5)}, {Prompt(2, 20)}, limits,
                            {{2, {.tokens = 12, .free_blocks = 0, .next_block = 0}}})
                  .prompt,
              ElementsAre(PlannedRows{2, 8}));
  // Those that nobody holds are among the free ones until they are taken.
  EXPECT_THAT(PlanWithReuse({Decoding(1, 5)}, {Prompt(2, 20)}, limits,
                            {{2, {.tokens = 12, .free_blocks = 3, .next_block = 0}}})
                  .prompt,
              IsEmpty());
}

TEST(PrefixReusePlanTest, SequenceWaitsForTheBlockThatAnotherFillsAndLetsOthersPass) {
  ScheduledSequence filling = Prompt(1, 40, 4);
  filling.next_block = 77;
  PlanLimits limits = Limits();
  limits.prompt_chunk = 8;
  const StepPlan plan = PlanWithReuse({filling}, {Prompt(2, 40), Prompt(3, 6)}, limits,
                                      {{2, {.tokens = 4, .free_blocks = 0, .next_block = 77}}});
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{1, 8}, PlannedRows{3, 6}));
}

TEST(PrefixReusePlanTest, OfTwoThatBeginAlikeOneStartsAndTheOtherFollowsIt) {
  const Reusable same{.tokens = 0, .free_blocks = 0, .next_block = 5};
  EXPECT_THAT(PlanWithReuse({}, {Prompt(1, 9), Prompt(2, 9), Prompt(3, 9)}, Limits(),
                            {{1, same}, {2, same}})
                  .prompt,
              ElementsAre(PlannedRows{1, 9}, PlannedRows{3, 9}));
}

TEST(PrefixReusePlanTest, PreemptingASequenceFreesOnlyWhatItHoldsAlone) {
  PlanLimits limits = Limits();
  limits.free_blocks = 0;
  ScheduledSequence sharing = Decoding(3, 8);
  sharing.shared_blocks = 2;
  const StepPlan plan = PlanNextStep({Decoding(1, 8), Decoding(2, 8), sharing}, {}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(3, 2));
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{1, 1}));
}

TEST(PromptShareTest, PromptsTakeNoMoreThanTheirRowsWhileOthersDecode) {
  PlanLimits limits = Limits();
  limits.prompt_tokens = 6;
  const StepPlan plan =
      PlanNextStep({Decoding(1, 5), Prompt(2, 20, 16)}, {Prompt(3, 30), Prompt(4, 5)}, limits);
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{1, 1}));
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{2, 4}, PlannedRows{3, 2}));
  EXPECT_THAT(PlanNextStep({Prompt(2, 60)}, {}, limits).prompt, ElementsAre(PlannedRows{2, 60}))
      << "nobody waits for a token";
}

TEST(PromptShareTest, SequenceWhoseTokenIsOnItsWayCountsAsDecoding) {
  PlanLimits limits = Limits();
  limits.prompt_tokens = 6;
  EXPECT_THAT(PlanNextStep({Awaiting(1, 5)}, {Prompt(3, 30)}, limits).prompt,
              ElementsAre(PlannedRows{3, 6}));
}

TEST(PromptShareTest, DecodingLeavesTheReserveToPrompts) {
  PlanLimits limits = Limits();
  limits.step_tokens = 4;
  limits.prompt_reserve = 2;
  const std::vector<ScheduledSequence> decoding = {Decoding(1, 5), Decoding(2, 5), Decoding(3, 5)};
  const StepPlan plan = PlanNextStep(decoding, {Prompt(4, 30)}, limits);
  EXPECT_THAT(plan.decode, SizeIs(2));
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{4, 2}));
  EXPECT_THAT(PlanNextStep(decoding, {}, limits).decode, SizeIs(3)) << "there is no prompt";
}

TEST(PriorityTest, UrgentRequestTakesThePlaceOfALessUrgentOne) {
  PlanLimits limits = Limits();
  limits.max_running = 2;
  ScheduledSequence urgent = Prompt(9, 3);
  urgent.priority = 1;
  const StepPlan plan = PlanNextStep({Decoding(1, 5), Decoding(2, 5)}, {urgent}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(2));
  EXPECT_THAT(plan.decode, ElementsAre(PlannedRows{1, 1}));
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{9, 3}));
  urgent.priority = 0;
  EXPECT_THAT(PlanNextStep({Decoding(1, 5), Decoding(2, 5)}, {urgent}, limits).preempt, IsEmpty());
}

TEST(PriorityTest, UrgentRequestTakesBlocksButNeverInVain) {
  PlanLimits limits = Limits();
  limits.free_blocks = 1;
  ScheduledSequence urgent = Prompt(9, 12);
  urgent.priority = 1;
  const StepPlan plan = PlanNextStep({Decoding(1, 7), Decoding(2, 7)}, {urgent}, limits);
  EXPECT_THAT(plan.preempt, ElementsAre(2, 1));
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{9, 12}));
  urgent.known_tokens = 60;
  const StepPlan vain = PlanNextStep({Decoding(1, 7), Decoding(2, 7)}, {urgent}, limits);
  EXPECT_THAT(vain.preempt, IsEmpty());
  EXPECT_THAT(vain.decode, SizeIs(2));
}

// 30 tokens of priority 1; 16 of them are in four blocks that sequence 2 alone holds.
StepPlan PlanUrgentThatFindsItsVictimsBlocks(std::int32_t free_blocks,
                                             std::vector<ScheduledSequence> others_waiting) {
  ScheduledSequence urgent = Prompt(9, 30);
  urgent.priority = 1;
  ScheduledSequence peer = Decoding(1, 15);
  peer.priority = 1;
  others_waiting.push_back(urgent);
  PlanInput input{.running = {peer, Decoding(2, 23)},
                  .waiting = std::move(others_waiting),
                  .limits = Limits(),
                  .find_reusable = [](std::uint64_t, std::span<const std::uint64_t> preempted) {
                    return Reusable{.tokens = 16, .free_blocks = preempted.empty() ? 0 : 4};
                  }};
  input.limits.free_blocks = free_blocks;
  StepPlan plan;
  PlanNextStep(input, plan);
  return plan;
}

TEST(PriorityTest, BlocksThatUrgentRequestFindsAtItsVictimAreNotFreeAsWell) {
  // Eight blocks for the prompt and one for the peer, of the victim's six and those that are free.
  const StepPlan vain = PlanUrgentThatFindsItsVictimsBlocks(2, {});
  EXPECT_THAT(vain.preempt, IsEmpty());
  EXPECT_THAT(vain.prompt, IsEmpty());
  const StepPlan plan = PlanUrgentThatFindsItsVictimsBlocks(3, {});
  EXPECT_THAT(plan.preempt, ElementsAre(2));
  EXPECT_THAT(plan.prompt, ElementsAre(PlannedRows{9, 14}));
}

TEST(PriorityTest, NextInLineKnowsWhoWasPreemptedForTheFirst) {
  // Five blocks beside what it finds, and one for each of the two before it: with a block more than
  // the first needs it would fit, were the four that it finds at the victim free as well.
  EXPECT_THAT(PlanUrgentThatFindsItsVictimsBlocks(7, {Prompt(10, 20)}).prompt,
              ElementsAre(PlannedRows{9, 14}));
  EXPECT_THAT(PlanUrgentThatFindsItsVictimsBlocks(10, {Prompt(10, 20)}).prompt,
              ElementsAre(PlannedRows{9, 14}, PlannedRows{10, 4}));
}

ScheduledSequence PromptOf(std::uint32_t tenant, double served, std::uint64_t id) {
  ScheduledSequence s = Prompt(id, 6);
  s.tenant = tenant;
  s.tenant_served = served;
  return s;
}

TEST(TenantTest, WhoGotLeastStartsFirst) {
  PlanLimits limits = Limits();
  limits.max_running = 2;
  EXPECT_THAT(
      PlanNextStep({}, {PromptOf(1, 90, 1), PromptOf(2, 20, 2), PromptOf(3, 50, 3)}, limits).prompt,
      ElementsAre(PlannedRows{2, 6}, PlannedRows{3, 6}));
}

TEST(TenantTest, EveryStartCountsForTheNextChoice) {
  PlanLimits limits = Limits();
  limits.max_running = 4;
  const std::vector<ScheduledSequence> waiting = {PromptOf(1, 0, 1), PromptOf(1, 0, 2),
                                                  PromptOf(1, 0, 3), PromptOf(2, 0, 4),
                                                  PromptOf(2, 0, 5), PromptOf(2, 0, 6)};
  EXPECT_THAT(
      PlanNextStep({}, waiting, limits).prompt,
      ElementsAre(PlannedRows{1, 6}, PlannedRows{4, 6}, PlannedRows{2, 6}, PlannedRows{5, 6}));
}

TEST(TenantTest, StreamThatStandsStillGoesBeforeAnyNewRequest) {
  PlanLimits limits = Limits();
  limits.max_running = 1;
  ScheduledSequence preempted = PromptOf(1, 900, 8);
  preempted.preempted = true;
  EXPECT_THAT(PlanNextStep({}, {PromptOf(2, 0, 2), preempted}, limits).prompt,
              ElementsAre(PlannedRows{8, 6}));
}

TEST(TenantTest, PriorityGoesBeforeFairness) {
  PlanLimits limits = Limits();
  limits.max_running = 1;
  ScheduledSequence urgent = PromptOf(1, 900, 8);
  urgent.priority = 1;
  EXPECT_THAT(PlanNextStep({}, {PromptOf(2, 0, 2), urgent}, limits).prompt,
              ElementsAre(PlannedRows{8, 6}));
}

}  // namespace
}  // namespace yangtuo
