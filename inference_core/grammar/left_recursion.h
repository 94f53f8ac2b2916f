#pragma once

#include "inference_core/grammar/expression.h"
#include "inference_core/grammar/rule_states.h"

namespace yangtuo {

// A rule that calls itself before any byte, through others or not; -1: there is none.
[[nodiscard]] RuleId FindLeftRecursion(const RuleStates& states);

}  // namespace yangtuo
