#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace yangtuo {

// What every front end compiles to: deterministic byte automata, one for each rule, in one table.
// A state may call another rule's automaton, which returns to a state of the caller when it
// accepts: together with a stack this matches any context-free grammar without left recursion.
// Plain data; made by BuildAutomaton, which leaves no state from which a text cannot be completed
// within the depth limit.
struct Automaton {
  static constexpr std::int32_t kNone = -1;

  struct Call {
    std::int32_t start = 0;   // of the rule that is called
    std::int32_t target = 0;  // where the caller goes on
    // The caller has nothing left to do at `target`: the rule returns to the caller's caller, so
    // that recursion at the end of a rule needs no stack.
    bool is_last = false;
  };

  std::array<std::uint8_t, 256> byte_class = {};  // bytes that no state tells apart share one
  std::int32_t num_classes = 1;
  std::int32_t start = 0;
  std::int32_t max_depth = 0;             // of the stack
  std::vector<std::int32_t> next;         // [states, classes], kNone: no text goes on so
  std::vector<std::uint8_t> accepts;      // [states]: the rule may end here
  std::vector<std::uint8_t> moves;        // [states]: a byte leads on
  std::vector<std::int32_t> depth_need;   // [states]: further stack needed at least, to its end
  std::vector<std::int32_t> first_calls;  // [states + 1], into calls
  std::vector<Call> calls;

  [[nodiscard]] std::int32_t num_states() const {
    return static_cast<std::int32_t>(accepts.size());
  }
  [[nodiscard]] bool Accepts(std::int32_t state) const {
    return accepts[static_cast<std::size_t>(state)] != 0;
  }
  [[nodiscard]] bool Moves(std::int32_t state) const {
    return moves[static_cast<std::size_t>(state)] != 0;
  }
  [[nodiscard]] std::int32_t DepthNeed(std::int32_t state) const {
    return depth_need[static_cast<std::size_t>(state)];
  }
  [[nodiscard]] std::span<const std::int32_t> Row(std::int32_t state) const {
    const auto classes = static_cast<std::size_t>(num_classes);
    return std::span(next).subspan(static_cast<std::size_t>(state) * classes, classes);
  }
  [[nodiscard]] std::span<const Call> CallsOf(std::int32_t state) const {
    const auto first = static_cast<std::size_t>(first_calls[static_cast<std::size_t>(state)]);
    const auto end = static_cast<std::size_t>(first_calls[static_cast<std::size_t>(state) + 1]);
    return std::span(calls).subspan(first, end - first);
  }
  [[nodiscard]] std::size_t memory_bytes() const {
    return next.size() * sizeof(next[0]) + calls.size() * sizeof(Call) +
           accepts.size() * (2 + 2 * sizeof(std::int32_t));
  }
};

}  // namespace yangtuo
