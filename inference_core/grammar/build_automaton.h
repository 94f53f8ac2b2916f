#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "inference_core/grammar/automaton.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// Compiles rule 0 and what it calls. The automaton's stack never holds more than `max_depth`
// callers: what would need more is not allowed from where it can still be avoided. INVALID_ARGUMENT
// when no text matches within that depth, when a rule calls itself before any byte (left
// recursion; the message names it), or when the grammar is too large (BuildBudget).
absl::StatusOr<Automaton> BuildAutomaton(const Expressions& expressions, std::int32_t max_depth);

}  // namespace yangtuo
