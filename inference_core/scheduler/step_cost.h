#pragma once

#include <cstdint>

namespace yangtuo {

// What steps cost on this machine of late, in seconds: moving averages of what was measured. A
// value; the functions below are pure.
struct StepCost {
  double decode_step =
      0.0;                  // a step without prompt rows, whatever its decode rows; 0: not seen yet
  double prompt_row = 0.0;  // what one prompt row adds to it; 0: not seen yet
};

// `cost` after a step of `decode_rows` and `prompt_rows` that took `seconds`.
//
// Newer steps weigh 1/4: attention makes steps dearer as sequences grow, and a machine may be
// shared. A prompt row counts as at least a quarter of its share of the step, so that one step that
// happened to be quick does not open the door to a huge one. A step that decodes and has prompt
// rows too took longer than its decode rows alone: under load there may be no other for a long
// time.
[[nodiscard]] StepCost Observe(const StepCost& cost, std::int32_t decode_rows,
                               std::int32_t prompt_rows, double seconds);

// Prompt rows that a step with decode rows may have so that it takes about `target_seconds`: never
// fewer than `least`, so that prompts advance whatever decoding costs, and never more than `most`.
// `least` too while no prompt row was seen. A step then takes at most
//   max(target_seconds, cost.decode_step + least * cost.prompt_row)
// as far as costs are what they were.
[[nodiscard]] std::int32_t PromptRowsWithin(double target_seconds, const StepCost& cost,
                                            std::int32_t least, std::int32_t most);

}  // namespace yangtuo
