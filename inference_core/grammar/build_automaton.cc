#include "inference_core/grammar/build_automaton.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <queue>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/dfa.h"
#include "inference_core/grammar/left_recursion.h"
#include "inference_core/grammar/merge_states.h"
#include "inference_core/grammar/rule_states.h"

namespace yangtuo {
namespace {

constexpr std::int32_t kNever = std::numeric_limits<std::int32_t>::max();

// Compiles the rules that the root reaches, into one table.
absl::StatusOr<RuleStates> MakeRules(const Expressions& expressions, const ByteClasses& classes,
                                     BuildBudget& budget) {
  const std::vector<bool> nullable = FindNullable(expressions);
  RuleStates states;
  states.num_classes = classes.count;
  states.rule_starts.assign(expressions.rules().size(), -1);
  std::vector<bool> wanted(expressions.rules().size(), false);
  std::vector<RuleId> open = {0};
  wanted[0] = true;
  while (!open.empty()) {
    const RuleId rule = open.back();
    open.pop_back();
    YANGTUO_ASSIGN_OR_RETURN(
        Dfa dfa, MakeDfa({.expressions = expressions, .nullable = nullable, .classes = classes},
                         expressions.rules()[static_cast<std::size_t>(rule)].body, budget));
    const std::int32_t first = states.num_states();
    states.rule_starts[static_cast<std::size_t>(rule)] = first;
    for (const std::int32_t target : dfa.next) {
      states.next.push_back(target < 0 ? -1 : first + target);
    }
    states.accepts.insert(states.accepts.end(), dfa.accepts.begin(), dfa.accepts.end());
    for (std::vector<Dfa::Call>& calls : dfa.calls) {
      for (Dfa::Call& call : calls) {
        call.target += first;
        if (!wanted[static_cast<std::size_t>(call.rule)]) {
          wanted[static_cast<std::size_t>(call.rule)] = true;
          open.push_back(call.rule);
        }
      }
      states.calls.push_back(std::move(calls));
    }
  }
  return states;
}

// For every state the least height of stack, above the caller's, with which its rule can end;
// kNever when it cannot. Knuth's generalization of Dijkstra's algorithm to grammars: the smallest
// value is settled first.
std::vector<std::int32_t> FindDepthNeeds(const RuleStates& states) {
  struct Caller {
    std::int32_t state = 0;
    Dfa::Call call = {};
  };
  const auto count = static_cast<std::size_t>(states.num_states());
  const auto classes = static_cast<std::size_t>(states.num_classes);
  std::vector<std::vector<std::int32_t>> before(count);  // by a byte
  std::vector<std::vector<Caller>> callers(count);       // by the call's target and by its start
  for (std::size_t state = 0; state < count; ++state) {
    std::int32_t last = -1;
    for (std::size_t c = 0; c < classes; ++c) {
      const std::int32_t target = states.next[state * classes + c];
      if (target >= 0 && target != last) {
        before[static_cast<std::size_t>(target)].push_back(static_cast<std::int32_t>(state));
      }
      last = target;
    }
    for (const Dfa::Call& call : states.calls[state]) {
      const Caller caller{.state = static_cast<std::int32_t>(state), .call = call};
      callers[static_cast<std::size_t>(call.target)].push_back(caller);
      callers[static_cast<std::size_t>(states.StartOf(call.rule))].push_back(caller);
    }
  }

  std::vector<std::int32_t> need(count, kNever);
  std::vector<bool> settled(count, false);
  using Entry = std::pair<std::int32_t, std::int32_t>;  // need, state
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open;
  const auto offer = [&](std::int32_t state, std::int32_t value) {
    std::int32_t& now = need[static_cast<std::size_t>(state)];
    if (value < now) {
      now = value;
      open.emplace(value, state);
    }
  };
  for (std::size_t state = 0; state < count; ++state) {
    if (states.accepts[state] != 0) {
      offer(static_cast<std::int32_t>(state), 0);
    }
  }
  while (!open.empty()) {
    const auto [value, state] = open.top();
    open.pop();
    const auto at = static_cast<std::size_t>(state);
    if (settled[at]) {
      continue;
    }
    settled[at] = true;
    for (const std::int32_t previous : before[at]) {
      offer(previous, value);
    }
    for (const Caller& caller : callers[at]) {
      const auto start = static_cast<std::size_t>(states.StartOf(caller.call.rule));
      const auto target = static_cast<std::size_t>(caller.call.target);
      if (settled[start] && settled[target]) {
        offer(caller.state, std::max(need[start] + 1, need[target]));
      }
    }
  }
  return need;
}

void RemoveHopeless(RuleStates& states, std::span<const std::int32_t> need,
                    std::int32_t max_depth) {
  const auto hopeless = [&](std::int32_t state) {
    return need[static_cast<std::size_t>(state)] > max_depth;
  };
  for (std::int32_t& target : states.next) {
    if (target >= 0 && hopeless(target)) {
      target = -1;
    }
  }
  for (std::vector<Dfa::Call>& calls : states.calls) {
    std::erase_if(calls, [&](const Dfa::Call& call) {
      return hopeless(call.target) ||
             need[static_cast<std::size_t>(states.StartOf(call.rule))] >= max_depth;
    });
  }
}

// A caller can always pass over a rule that matches the empty text (see MakeNfa), so that rules
// which match nothing else need no call.
void RemoveEmptyCalls(RuleStates& states) {
  const auto classes = static_cast<std::size_t>(states.num_classes);
  std::vector<bool> moves(states.accepts.size(), false);
  for (std::size_t i = 0; i < states.next.size(); ++i) {
    if (states.next[i] >= 0) {
      moves[i / classes] = true;
    }
  }
  for (bool changed = true; changed;) {
    changed = false;
    for (std::vector<Dfa::Call>& calls : states.calls) {
      changed |= std::erase_if(calls, [&](const Dfa::Call& call) {
                   const auto start = static_cast<std::size_t>(states.StartOf(call.rule));
                   return !moves[start] && states.calls[start].empty();
                 }) > 0;
    }
  }
}

}  // namespace

absl::StatusOr<Automaton> BuildAutomaton(const Expressions& expressions, std::int32_t max_depth) {
  const ByteClasses classes = FindByteClasses(expressions);
  BuildBudget budget;
  YANGTUO_ASSIGN_OR_RETURN(RuleStates states, MakeRules(expressions, classes, budget));
  const std::vector<std::int32_t> need = FindDepthNeeds(states);
  if (need[static_cast<std::size_t>(states.StartOf(0))] > max_depth) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the grammar matches no text (with rules nested at most %d deep)", max_depth));
  }
  RemoveHopeless(states, need, max_depth);
  RemoveEmptyCalls(states);
  if (const RuleId rule = FindLeftRecursion(states); rule >= 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s refers to itself before any character (left recursion), which is not supported",
        expressions.rules()[static_cast<std::size_t>(rule)].name));
  }
  return MergeStates(states, need, classes, max_depth);
}

}  // namespace yangtuo
