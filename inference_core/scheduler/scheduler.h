#pragma once

#include <cstdint>
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
  // A preempted sequence whose last steps are still in flight cannot start again before they end.
  std::int32_t steps_in_flight = 0;
};

struct StepLimits {
  std::int32_t step_tokens = 1;   // rows of a step
  std::int32_t prompt_chunk = 0;  // prompt rows of one sequence in a step; 0: no limit
  std::int32_t max_running = 1;   // at most step_tokens * depth, or decoding sequences may starve
  std::int32_t depth = 1;         // steps worth having in flight
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
  // Chunks of prompts, or of preempted sequences that are computed again. Those that waited become
  // running.
  std::vector<PlannedRows> prompt;

  [[nodiscard]] bool empty() const { return decode.empty() && prompt.empty(); }
};

// Decides the next step. Pure: same arguments, same plan; owns no thread, clock or cache. The order
// of the arguments does not matter. Preempts only to give rows to somebody else.
//
// Decoding sequences go first because a stalled stream is visible to a user, while a later start is
// not. When blocks run out, the lowest priority and then the youngest running sequence gives its
// blocks up, never for a sequence behind it: so the first in line always ends, and after it the
// next. A sequence that gets no block keeps what it has and sits the step out.
//
// With depth p, a step takes at most 1/p of the decoding sequences, so that p batches are in flight
// and every stage of a pipeline has work.
//
// A waiting sequence starts when its whole prompt fits beside what the running prompts still need
// and one more block for every running sequence; the margin keeps a preempted sequence from coming
// back only to be preempted again. Nobody overtakes the first in line.
[[nodiscard]] StepPlan PlanNextStep(std::vector<ScheduledSequence> running,
                                    std::vector<ScheduledSequence> waiting,
                                    const StepLimits& limits);

}  // namespace yangtuo
