#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "inference_core/grammar/automaton.h"

namespace yangtuo {

// Where a text is in a grammar. A value: what may follow depends on it alone. Where a grammar is
// ambiguous so far there are several threads; most places have one.
struct Place {
  // For every thread: state, number of callers, the states to return to (innermost first).
  std::vector<std::int32_t> threads;
  bool complete = false;  // the text may end here

  bool operator==(const Place&) const = default;
};

// Runs an automaton with its stacks, and remembers every place it came to, so that trying a whole
// vocabulary costs a table look-up a byte. For one vocabulary pass or one token: grows until
// destroyed. Not thread-safe.
class Simulator {
 public:
  // Threads of one place. An ambiguous grammar that would need more loses the last ones: it then
  // allows fewer texts, never a wrong or an unfinished one.
  static constexpr std::size_t kThreads = 64;
  static constexpr std::int32_t kDead = -1;

  // `automaton` must outlive this.
  explicit Simulator(const Automaton& automaton);

  // Places are numbered from 0 in here. kDead: there are more ways to begin than are looked at, and
  // the first of them lead nowhere.
  [[nodiscard]] std::int32_t Start();
  [[nodiscard]] std::int32_t Enter(const Place& place);
  [[nodiscard]] Place Leave(std::int32_t place) const;

  // The place after one more byte, kDead when it cannot follow.
  [[nodiscard]] std::int32_t Step(std::int32_t place, std::uint8_t byte) {
    const std::size_t at = static_cast<std::size_t>(place) * num_classes_ + byte_class_[byte];
    const std::int32_t next = next_[at];
    return next != kUnknown ? next : FindStep(place, byte_class_[byte]);
  }
  // What was spent so far, in states looked at.
  [[nodiscard]] std::int64_t work() const { return work_; }
  [[nodiscard]] bool IsComplete(std::int32_t place) const {
    return places_[static_cast<std::size_t>(place)].complete;
  }

 private:
  static constexpr std::int32_t kUnknown = -2;
  static constexpr std::int32_t kEmptyStack = -1;

  struct Frame {
    std::int32_t return_state = 0;
    std::int32_t caller = kEmptyStack;  // frame
    std::int32_t depth = 0;             // frames up to and including this one
    bool operator==(const Frame&) const = default;
  };
  struct Thread {
    std::int32_t state = 0;
    std::int32_t stack = kEmptyStack;  // frame
    bool operator==(const Thread&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Thread& thread) {
      return H::combine(std::move(h), thread.state, thread.stack);
    }
  };
  struct Stop {
    std::vector<Thread> threads;  // those that a byte can move, in the order they were found
    bool complete = false;
    bool operator==(const Stop&) const = default;
    template <typename H>
    friend H AbslHashValue(H h, const Stop& stop) {
      return H::combine(std::move(h), stop.threads, stop.complete);
    }
  };

  std::int32_t FindStep(std::int32_t place, std::uint8_t byte_class);
  // Follows calls and returns from where a byte has `moved` threads to all that a byte can move.
  std::int32_t Close(std::vector<Thread> moved);
  std::int32_t Number(Stop stop);
  std::int32_t Push(std::int32_t return_state, std::int32_t stack);
  [[nodiscard]] std::int32_t Depth(std::int32_t stack) const {
    return stack == kEmptyStack ? 0 : frames_[static_cast<std::size_t>(stack)].depth;
  }

  const Automaton& automaton_;
  std::array<std::uint8_t, 256> byte_class_;
  std::size_t num_classes_;
  std::int64_t work_ = 0;
  std::vector<std::int32_t> next_;  // [places, classes]
  std::vector<Stop> places_;
  absl::flat_hash_map<Stop, std::int32_t> numbers_;
  std::vector<Frame> frames_;
  absl::flat_hash_map<std::pair<std::int32_t, std::int32_t>, std::int32_t> frame_numbers_;
};

}  // namespace yangtuo
