#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/grammar/byte_classes.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// What compiling one grammar may still spend: a hostile one ends with an error, not in a long time.
class BuildBudget {
 public:
  static constexpr std::int64_t kSteps = 200'000'000;  // half a second or so
  static constexpr std::int64_t kNodes = 1'000'000;    // of rules written out, some 100 bytes each
  static constexpr std::int64_t kStates = 100'000;     // of automata, all rules together
  static constexpr std::int64_t kBytes = 64 << 20;     // of their transitions

  absl::Status SpendSteps(std::int64_t steps);
  absl::Status SpendNode();
  absl::Status SpendState(std::int32_t num_classes);

 private:
  std::int64_t steps_ = kSteps;
  std::int64_t nodes_ = kNodes;
  std::int64_t states_ = kStates;
  std::int64_t bytes_ = kBytes;
};

// The automaton of one rule over byte classes; state 0 is the start. Calls name rules.
struct Dfa {
  struct Call {
    RuleId rule = 0;
    std::int32_t target = 0;
  };

  std::int32_t num_classes = 1;
  std::vector<std::int32_t> next = {};        // [states, classes], -1: none
  std::vector<std::uint8_t> accepts = {};     // [states]
  std::vector<std::vector<Call>> calls = {};  // [states]

  [[nodiscard]] std::int32_t num_states() const {
    return static_cast<std::int32_t>(accepts.size());
  }
  [[nodiscard]] std::int32_t Next(std::int32_t state, std::int32_t byte_class) const {
    return next[static_cast<std::size_t>(state) * static_cast<std::size_t>(num_classes) +
                static_cast<std::size_t>(byte_class)];
  }
  // A new state without a way on.
  std::int32_t AddState();
};

// What automata are made from.
struct DfaSource {
  const Expressions& expressions;
  const std::vector<bool>& nullable;  // [rules]: matches the empty text
  const ByteClasses& classes;
};

// INVALID_ARGUMENT when the budget does not suffice.
absl::StatusOr<Dfa> MakeDfa(const DfaSource& source, ExpressionId root, BuildBudget& budget);

// Texts that both match, or that `left` matches and `right` does not; neither has calls.
enum class DfaOperation { kBoth, kWithout };
absl::StatusOr<Dfa> Combine(const Dfa& left, const Dfa& right, DfaOperation operation,
                            BuildBudget& budget);

}  // namespace yangtuo
