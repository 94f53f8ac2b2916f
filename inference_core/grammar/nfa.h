#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/grammar/byte_classes.h"
#include "inference_core/grammar/dfa.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// An expression with all repetitions written out, ready to be made deterministic.
struct Nfa {
  enum class StateKind : std::uint8_t {
    kEnd,
    kBytes,  // classes low..high lead to target
    kCall,   // rule `low` leads to target
    kSplit,  // all of `targets` at once
  };
  struct State {
    StateKind kind = StateKind::kEnd;
    std::int32_t low = 0;
    std::int32_t high = 0;
    std::int32_t target = 0;
    std::vector<std::int32_t> targets = {};
  };

  std::vector<State> states;
  std::int32_t start = 0;
};

// A call of a rule that matches the empty text can also be passed over: who follows calls need not
// return from one before a byte. INVALID_ARGUMENT when the budget does not suffice.
absl::StatusOr<Nfa> MakeNfa(const DfaSource& source, ExpressionId root, BuildBudget& budget);

}  // namespace yangtuo
