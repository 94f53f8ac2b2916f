#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "inference_core/grammar/dfa.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// The automata of all rules in one table, on the way to an Automaton.
struct RuleStates {
  std::int32_t num_classes = 1;
  std::vector<std::int32_t> rule_starts;      // [rules]; -1: not reached from the root
  std::vector<std::int32_t> next;             // [states, classes], -1: none
  std::vector<std::uint8_t> accepts;          // [states]
  std::vector<std::vector<Dfa::Call>> calls;  // [states]

  [[nodiscard]] std::int32_t num_states() const {
    return static_cast<std::int32_t>(accepts.size());
  }
  [[nodiscard]] std::int32_t StartOf(RuleId rule) const {
    return rule_starts[static_cast<std::size_t>(rule)];
  }
};

}  // namespace yangtuo
