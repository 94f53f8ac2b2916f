#include "inference_core/grammar/merge_states.h"

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/hash/hash.h"

namespace yangtuo {
namespace {

constexpr int kMostPasses = 8;

// Which state stands for each.
class Representatives {
 public:
  Representatives(const RuleStates& states, std::span<const std::int32_t> need)
      : states_(states), need_(need), of_(static_cast<std::size_t>(states.num_states())) {
    for (std::size_t state = 0; state < of_.size(); ++state) {
      of_[state] = static_cast<std::int32_t>(state);
    }
    // Every pass may make states equal that differed only in where they lead to.
    for (int pass = 0; pass < kMostPasses && Merge(); ++pass) {
    }
  }

  [[nodiscard]] std::int32_t Of(std::int32_t state) const {
    return state < 0 ? state : of_[static_cast<std::size_t>(state)];
  }

 private:
  bool Merge() {
    constexpr std::int32_t kItself = -2;
    bool merged = false;
    std::vector<std::vector<std::int32_t>> signatures;  // of representatives
    absl::flat_hash_map<std::size_t, std::vector<std::int32_t>> by_hash;
    std::vector<std::int32_t> now = of_;
    std::vector<std::int32_t> signature;
    const auto classes = static_cast<std::size_t>(states_.num_classes);
    for (std::size_t state = 0; state < of_.size(); ++state) {
      if (of_[state] != static_cast<std::int32_t>(state)) {
        continue;
      }
      signature = {states_.accepts[state], need_[state]};
      for (std::size_t c = 0; c < classes; ++c) {
        const std::int32_t target = Of(states_.next[state * classes + c]);
        signature.push_back(target == static_cast<std::int32_t>(state) ? kItself : target);
      }
      for (const Dfa::Call& call : states_.calls[state]) {
        signature.push_back(call.rule);
        signature.push_back(Of(call.target));
      }
      std::vector<std::int32_t>& alike = by_hash[absl::HashOf(signature)];
      const auto equal = std::find_if(alike.begin(), alike.end(), [&](std::int32_t other) {
        return signatures[static_cast<std::size_t>(other)] == signature;
      });
      if (equal != alike.end()) {
        now[state] = owners_[static_cast<std::size_t>(*equal)];
        merged = true;
      } else {
        alike.push_back(static_cast<std::int32_t>(signatures.size()));
        signatures.push_back(signature);
        owners_.push_back(static_cast<std::int32_t>(state));
      }
    }
    owners_.clear();
    for (std::int32_t& representative : now) {
      representative = now[static_cast<std::size_t>(representative)];
    }
    of_ = std::move(now);
    return merged;
  }

  const RuleStates& states_;
  std::span<const std::int32_t> need_;
  std::vector<std::int32_t> of_;
  std::vector<std::int32_t> owners_;  // of the signatures of one pass
};

// The first column of `next` [states, classes] that is equal, for each.
std::vector<std::size_t> EqualColumns(std::span<const std::int32_t> next, std::size_t classes) {
  std::vector<std::size_t> hashes(classes, 0);
  for (std::size_t i = 0; i < next.size(); ++i) {
    std::size_t& hash = hashes[i % classes];
    hash = (hash ^ static_cast<std::size_t>(next[i] + 1)) * 0x9E3779B97F4A7C15U;
    hash ^= hash >> 29U;
  }
  std::vector<std::size_t> first(classes);
  for (std::size_t c = 0; c < classes; ++c) {
    first[c] = c;
    for (std::size_t other = 0; other < c && first[c] == c; ++other) {
      if (first[other] != other || hashes[other] != hashes[c]) {
        continue;
      }
      bool equal = true;
      for (std::size_t row = 0; row < next.size() && equal; row += classes) {
        equal = next[row + other] == next[row + c];
      }
      first[c] = equal ? other : c;
    }
  }
  return first;
}

}  // namespace

Automaton MergeStates(const RuleStates& states, std::span<const std::int32_t> need,
                      const ByteClasses& classes, std::int32_t max_depth) {
  const Representatives representatives(states, need);
  const auto old_classes = static_cast<std::size_t>(states.num_classes);

  // Numbers in the order of a search from the root.
  std::vector<std::int32_t> numbers(static_cast<std::size_t>(states.num_states()), -1);
  std::vector<std::int32_t> order;
  const auto number = [&](std::int32_t state) {
    if (state < 0) {
      return Automaton::kNone;
    }
    const std::int32_t representative = representatives.Of(state);
    std::int32_t& known = numbers[static_cast<std::size_t>(representative)];
    if (known < 0) {
      known = static_cast<std::int32_t>(order.size());
      order.push_back(representative);
    }
    return known;
  };

  Automaton automaton;
  automaton.max_depth = max_depth;
  automaton.start = number(states.StartOf(0));
  std::vector<std::int32_t> wide;  // [states, old classes]
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto state = static_cast<std::size_t>(order[i]);
    bool moves = false;
    for (std::size_t c = 0; c < old_classes; ++c) {
      wide.push_back(number(states.next[state * old_classes + c]));
      moves = moves || wide.back() >= 0;
    }
    automaton.first_calls.push_back(static_cast<std::int32_t>(automaton.calls.size()));
    for (const Dfa::Call& call : states.calls[state]) {
      automaton.calls.push_back(
          {.start = number(states.StartOf(call.rule)), .target = number(call.target)});
    }
    automaton.accepts.push_back(states.accepts[state]);
    automaton.moves.push_back(moves ? 1 : 0);
    automaton.depth_need.push_back(need[state]);
  }
  automaton.first_calls.push_back(static_cast<std::int32_t>(automaton.calls.size()));
  for (Automaton::Call& call : automaton.calls) {
    call.is_last = automaton.Accepts(call.target) && !automaton.Moves(call.target) &&
                   automaton.CallsOf(call.target).empty();
  }

  const std::vector<std::size_t> column = EqualColumns(wide, old_classes);
  std::vector<std::uint8_t> new_class(old_classes);
  std::vector<std::size_t> kept;
  for (std::size_t c = 0; c < old_classes; ++c) {
    if (column[c] == c) {
      new_class[c] = static_cast<std::uint8_t>(kept.size());
      kept.push_back(c);
    } else {
      new_class[c] = new_class[column[c]];
    }
  }
  automaton.num_classes = static_cast<std::int32_t>(kept.size());
  for (std::size_t byte = 0; byte < 256; ++byte) {
    automaton.byte_class[byte] = new_class[classes.of_byte[byte]];
  }
  automaton.next.reserve(order.size() * kept.size());
  for (std::size_t row = 0; row < wide.size(); row += old_classes) {
    for (const std::size_t c : kept) {
      automaton.next.push_back(wide[row + c]);
    }
  }
  return automaton;
}

}  // namespace yangtuo
