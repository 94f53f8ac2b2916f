#pragma once

#include <cstdint>
#include <span>

#include "inference_core/grammar/automaton.h"
#include "inference_core/grammar/byte_classes.h"
#include "inference_core/grammar/rule_states.h"

namespace yangtuo {

// The same automata with equal states and equal byte classes made one, where a few passes find
// them, and without states that rule 0 does not reach. Fewer states mean that more texts come to
// the same place, whose allowed tokens are then known.
[[nodiscard]] Automaton MergeStates(const RuleStates& states, std::span<const std::int32_t> need,
                                    const ByteClasses& classes, std::int32_t max_depth);

}  // namespace yangtuo
