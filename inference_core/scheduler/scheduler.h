#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

namespace yangtuo {

// What the policy knows of a sequence: numbers only.
struct ScheduledSequence {
  std::uint64_t id = 0;       // rises with arrival: the smaller, the older
  std::int32_t priority = 0;  // higher runs first
  // Prompt and answer so far.
  std::int32_t known_tokens = 0;
  // Those of them whose keys and values are in blocks, or will be after the steps in flight. All of
  // them: the next token is on its way, and nothing can be done before it arrives.
  std::int32_t computed_tokens = 0;
  std::int32_t blocks = 0;  // KV blocks held
  // Those of them that others hold too: taking them away frees nothing.
  std::int32_t shared_blocks = 0;
  // A preempted sequence whose last steps are still in flight cannot start again before they end.
  std::int32_t steps_in_flight = 0;
  // Names the block of its prompt that a running sequence fills next; 0: of no use to others.
  std::uint64_t next_block = 0;
  // A waiting sequence that ran before: its stream stands still meanwhile.
  bool preempted = false;
  // Whose it is, and what that tenant got so far, in tokens.
  std::uint32_t tenant = 0;
  double tenant_served = 0.0;
};

// What a waiting sequence need not compute.
struct Reusable {
  // Leading positions in blocks that are there already: whole blocks, fewer than known_tokens.
  std::int32_t tokens = 0;
  // Those of the blocks that count as free until they are taken: that nobody holds, or one of the
  // preempted alone.
  std::int32_t free_blocks = 0;
  // Names the block that it would fill first, as ScheduledSequence::next_block; 0: it would make
  // no use of another's.
  std::uint64_t next_block = 0;
};

struct PlanLimits {
  std::int32_t step_tokens = 1;   // rows of a step
  std::int32_t prompt_chunk = 0;  // prompt rows of one sequence in a step; 0: no limit
  // Prompt rows of all sequences together in a step while others decode; at least 1.
  std::int32_t prompt_tokens = std::numeric_limits<std::int32_t>::max();
  // Rows that decoding leaves to prompts when there are any; less than step_tokens.
  std::int32_t prompt_reserve = 0;
  // At most (step_tokens - prompt_reserve) * depth, or decoding sequences may starve.
  std::int32_t max_running = 1;
  std::int32_t depth = 1;  // steps worth having in flight
  std::int32_t block_size = 1;
  std::int32_t free_blocks = 0;
};

// The next `tokens` positions of a sequence.
struct PlannedRows {
  std::uint64_t id = 0;
  std::int32_t tokens = 0;

  bool operator==(const PlannedRows&) const = default;
};

struct StepPlan {
  std::vector<std::uint64_t> preempt;  // give up their blocks first, and wait again
  std::vector<PlannedRows> decode;     // one row each: running sequences with one token to compute
  // Chunks of prompts, or of preempted sequences that are computed again. Those that waited take
  // what is reusable, then these rows, and are running.
  std::vector<PlannedRows> prompt;

  [[nodiscard]] bool empty() const { return decode.empty() && prompt.empty(); }
};

// Everything that a plan depends on. The order of the lists does not matter.
struct PlanInput {
  std::vector<ScheduledSequence> running;
  std::vector<ScheduledSequence> waiting;
  PlanLimits limits;
  // What a waiting sequence can use when those of `preempted` have given up their blocks. Asked
  // only for those whose turn it is. May be empty: nothing is reusable.
  std::function<Reusable(std::uint64_t id, std::span<const std::uint64_t> preempted)> find_reusable;
};

// Decides the next step: same input, same plan; owns no thread, clock or cache. `plan` is
// overwritten and the lists of `input` are used as scratch, so that repeated planning takes no
// memory.
//
// Decoding sequences go first because a stalled stream is visible to a user, while a later start is
// not; but they leave `prompt_reserve` rows to prompts, and prompts take no more than
// `prompt_tokens` rows beside them: neither waits for the other. When blocks run out, the lowest
// priority and then the youngest running sequence gives its blocks up, never for a sequence behind
// it: so the first in line always ends, and after it the next. A sequence that gets no block keeps
// what it has and sits the step out. Blocks that several hold become free with the last of them: a
// plan may preempt and have no rows yet; then the next one has.
//
// With depth p, a step takes at most 1/p of the decoding sequences, so that p batches are in flight
// and every stage of a pipeline has work.
//
// Waiting sequences start by priority; then those that ran before; then those of the tenant that
// got least; then by age. The first in line starts when its whole prompt, less what is reusable,
// fits beside what the running prompts still need and one more block for every running sequence;
// the margin keeps a preempted sequence from coming back only to be preempted again. When it does
// not fit, running sequences of lower priority give way to it. Nobody overtakes it, with one
// exception: a sequence whose next block a running sequence is about to fill waits for that block
// and lets others pass.
void PlanNextStep(PlanInput& input, StepPlan& plan);

// The same for one plan by itself, with nothing reusable.
[[nodiscard]] StepPlan PlanNextStep(std::vector<ScheduledSequence> running,
                                    std::vector<ScheduledSequence> waiting,
                                    const PlanLimits& limits);

}  // namespace yangtuo
