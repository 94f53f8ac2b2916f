#include "inference_core/scheduler/step_cost.h"

#include <algorithm>

namespace yangtuo {
namespace {

constexpr double kNewest = 0.25;
constexpr double kLeastShare = 0.25;

double Average(double average, double newest) {
  return average > 0.0 ? average + kNewest * (newest - average) : newest;
}

}  // namespace

StepCost Observe(const StepCost& cost, std::int32_t decode_rows, std::int32_t prompt_rows,
                 double seconds) {
  StepCost after = cost;
  if (prompt_rows > 0) {
    const double added = std::max(seconds - cost.decode_step, kLeastShare * seconds);
    after.prompt_row = Average(cost.prompt_row, added / prompt_rows);
    if (decode_rows > 0) {
      after.decode_step = std::min(cost.decode_step, seconds);
    }
  } else if (decode_rows > 0) {
    after.decode_step = Average(cost.decode_step, seconds);
  }
  return after;
}

std::int32_t PromptRowsWithin(double target_seconds, const StepCost& cost, std::int32_t least,
                              std::int32_t most) {
  const std::int32_t floor = std::min(least, most);
  if (cost.prompt_row <= 0.0) {
    return floor;
  }
  const double rows = (target_seconds - cost.decode_step) / cost.prompt_row;
  // Compared before it is converted: it may be larger than any integer.
  return rows >= static_cast<double>(most)
             ? most
             : std::max(floor, static_cast<std::int32_t>(std::max(rows, 0.0)));
}

}  // namespace yangtuo
