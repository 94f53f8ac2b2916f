#include "inference_core/grammar/dfa.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/nfa.h"

namespace yangtuo {
namespace {

// Sets of states are kept, twice: the budget of steps bounds memory too.
constexpr std::int64_t kStepsOfElement = 20;

// The subset construction.
class Determinizer {
 public:
  Determinizer(const Nfa& nfa, std::int32_t num_classes, BuildBudget& budget)
      : nfa_(nfa), budget_(budget), seen_(nfa.states.size(), 0) {
    dfa_.num_classes = num_classes;
  }

  absl::StatusOr<Dfa> Run() {
    YANGTUO_RETURN_IF_ERROR(Number({nfa_.start}).status());
    for (std::int32_t state = 0; state < dfa_.num_states(); ++state) {
      YANGTUO_RETURN_IF_ERROR(FollowBytes(state));
      YANGTUO_RETURN_IF_ERROR(FollowCalls(state));
    }
    return std::move(dfa_);
  }

 private:
  using Set = std::vector<std::int32_t>;

  // The state of what `targets` lead to without a byte.
  absl::StatusOr<std::int32_t> Number(Set targets) {
    ++round_;
    Set open = std::move(targets);
    Set set;
    bool accepts = false;
    while (!open.empty()) {
      const std::int32_t at = open.back();
      open.pop_back();
      std::uint32_t& seen = seen_[static_cast<std::size_t>(at)];
      if (seen == round_) {
        continue;
      }
      seen = round_;
      const Nfa::State& state = nfa_.states[static_cast<std::size_t>(at)];
      YANGTUO_RETURN_IF_ERROR(
          budget_.SpendSteps(2 + static_cast<std::int64_t>(state.targets.size())));
      if (state.kind == Nfa::StateKind::kSplit) {
        open.insert(open.end(), state.targets.begin(), state.targets.end());
      } else {
        accepts = accepts || state.kind == Nfa::StateKind::kEnd;
        set.push_back(at);
      }
    }
    std::sort(set.begin(), set.end());
    const auto [entry, is_new] = numbers_.try_emplace(set, dfa_.num_states());
    if (is_new) {
      YANGTUO_RETURN_IF_ERROR(budget_.SpendState(dfa_.num_classes));
      YANGTUO_RETURN_IF_ERROR(
          budget_.SpendSteps(kStepsOfElement * static_cast<std::int64_t>(set.size())));
      dfa_.accepts[static_cast<std::size_t>(dfa_.AddState())] = accepts ? 1 : 0;
      sets_.push_back(std::move(set));
    }
    return entry->second;
  }

  absl::Status FollowBytes(std::int32_t from) {
    for (Set& targets : by_class_) {
      targets.clear();
    }
    for (const std::int32_t at : sets_[static_cast<std::size_t>(from)]) {
      const Nfa::State& state = nfa_.states[static_cast<std::size_t>(at)];
      if (state.kind == Nfa::StateKind::kBytes) {
        YANGTUO_RETURN_IF_ERROR(budget_.SpendSteps(1 + state.high - state.low));
        for (std::int32_t c = state.low; c <= state.high; ++c) {
          by_class_[static_cast<std::size_t>(c)].push_back(state.target);
        }
      }
    }
    std::int32_t target = -1;
    for (std::int32_t c = 0; c < dfa_.num_classes; ++c) {
      const Set& targets = by_class_[static_cast<std::size_t>(c)];
      if (targets.empty()) {
        continue;
      }
      if (c == 0 || targets != by_class_[static_cast<std::size_t>(c) - 1]) {
        YANGTUO_ASSIGN_OR_RETURN(target, Number(targets));
      }
      dfa_.next[static_cast<std::size_t>(from) * static_cast<std::size_t>(dfa_.num_classes) +
                static_cast<std::size_t>(c)] = target;
    }
    return absl::OkStatus();
  }

  absl::Status FollowCalls(std::int32_t from) {
    std::vector<std::pair<RuleId, std::int32_t>> calls;  // rule, target
    for (const std::int32_t at : sets_[static_cast<std::size_t>(from)]) {
      const Nfa::State& state = nfa_.states[static_cast<std::size_t>(at)];
      if (state.kind == Nfa::StateKind::kCall) {
        calls.emplace_back(state.low, state.target);
      }
    }
    std::sort(calls.begin(), calls.end());
    for (std::size_t i = 0; i < calls.size();) {
      const RuleId rule = calls[i].first;
      Set targets;
      for (; i < calls.size() && calls[i].first == rule; ++i) {
        targets.push_back(calls[i].second);
      }
      YANGTUO_ASSIGN_OR_RETURN(const std::int32_t target, Number(std::move(targets)));
      dfa_.calls[static_cast<std::size_t>(from)].push_back({.rule = rule, .target = target});
    }
    return absl::OkStatus();
  }

  const Nfa& nfa_;
  BuildBudget& budget_;
  Dfa dfa_;
  std::vector<Set> sets_;  // [states of dfa_]: those of nfa_, splits followed
  absl::flat_hash_map<Set, std::int32_t> numbers_;
  std::array<Set, 256> by_class_;
  std::vector<std::uint32_t> seen_;  // in which round
  std::uint32_t round_ = 0;
};

// Takes away the ways to states from which no end is reached.
Dfa WithoutDeadEnds(Dfa dfa) {
  std::vector<std::vector<std::int32_t>> from(dfa.accepts.size());
  const auto classes = static_cast<std::size_t>(dfa.num_classes);
  for (std::size_t i = 0; i < dfa.next.size(); ++i) {
    if (dfa.next[i] >= 0 && (i % classes == 0 || dfa.next[i] != dfa.next[i - 1])) {
      from[static_cast<std::size_t>(dfa.next[i])].push_back(static_cast<std::int32_t>(i / classes));
    }
  }
  std::vector<std::uint8_t> ends = dfa.accepts;
  std::vector<std::int32_t> open;
  for (std::int32_t state = 0; state < dfa.num_states(); ++state) {
    if (ends[static_cast<std::size_t>(state)] != 0) {
      open.push_back(state);
    }
  }
  while (!open.empty()) {
    const std::int32_t state = open.back();
    open.pop_back();
    for (const std::int32_t before : from[static_cast<std::size_t>(state)]) {
      if (ends[static_cast<std::size_t>(before)] == 0) {
        ends[static_cast<std::size_t>(before)] = 1;
        open.push_back(before);
      }
    }
  }
  for (std::int32_t& target : dfa.next) {
    if (target >= 0 && ends[static_cast<std::size_t>(target)] == 0) {
      target = -1;
    }
  }
  return dfa;
}

}  // namespace

absl::Status BuildBudget::SpendSteps(std::int64_t steps) {
  steps_ -= steps;
  if (steps_ < 0) {
    return absl::InvalidArgumentError(
        "the grammar is too large or too ambiguous: it takes too many steps to compile; use "
        "smaller repetition counts, lengths or fewer alternatives that begin alike");
  }
  return absl::OkStatus();
}

absl::Status BuildBudget::SpendNode() {
  if (--nodes_ < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the grammar is too large: written out it has more than %d nodes; use smaller repetition "
        "counts, lengths or fewer properties",
        kNodes));
  }
  return absl::OkStatus();
}

absl::Status BuildBudget::SpendState(std::int32_t num_classes) {
  bytes_ -= std::int64_t{4} * num_classes;
  if (--states_ < 0 || bytes_ < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the grammar is too large: its automaton needs more than %d states or %d MiB; use smaller "
        "repetition counts or lengths",
        kStates, kBytes >> 20));
  }
  return absl::OkStatus();
}

std::int32_t Dfa::AddState() {
  next.resize(next.size() + static_cast<std::size_t>(num_classes), -1);
  accepts.push_back(0);
  calls.emplace_back();
  return num_states() - 1;
}

absl::StatusOr<Dfa> MakeDfa(const DfaSource& source, ExpressionId root, BuildBudget& budget) {
  YANGTUO_ASSIGN_OR_RETURN(const Nfa nfa, MakeNfa(source, root, budget));
  return Determinizer(nfa, source.classes.count, budget).Run();
}

absl::StatusOr<Dfa> Combine(const Dfa& left, const Dfa& right, DfaOperation operation,
                            BuildBudget& budget) {
  using Pair = std::pair<std::int32_t, std::int32_t>;  // of states; right -1: none
  Dfa dfa{.num_classes = left.num_classes};
  std::vector<Pair> pairs;
  absl::flat_hash_map<Pair, std::int32_t> numbers;
  const auto number = [&](Pair pair) -> absl::StatusOr<std::int32_t> {
    const auto [entry, is_new] = numbers.try_emplace(pair, dfa.num_states());
    if (is_new) {
      YANGTUO_RETURN_IF_ERROR(budget.SpendState(dfa.num_classes));
      const bool in_left = left.accepts[static_cast<std::size_t>(pair.first)] != 0;
      const bool in_right =
          pair.second >= 0 && right.accepts[static_cast<std::size_t>(pair.second)] != 0;
      const bool accepts = in_left && in_right == (operation == DfaOperation::kBoth);
      dfa.accepts[static_cast<std::size_t>(dfa.AddState())] = accepts ? 1 : 0;
      pairs.push_back(pair);
    }
    return entry->second;
  };
  YANGTUO_RETURN_IF_ERROR(number({0, 0}).status());
  for (std::int32_t state = 0; state < dfa.num_states(); ++state) {
    const Pair pair = pairs[static_cast<std::size_t>(state)];
    YANGTUO_RETURN_IF_ERROR(budget.SpendSteps(dfa.num_classes));
    for (std::int32_t c = 0; c < dfa.num_classes; ++c) {
      const Pair target{left.Next(pair.first, c),
                        pair.second < 0 ? -1 : right.Next(pair.second, c)};
      if (target.first >= 0 && (target.second >= 0 || operation == DfaOperation::kWithout)) {
        YANGTUO_ASSIGN_OR_RETURN(
            dfa.next[static_cast<std::size_t>(state) * static_cast<std::size_t>(dfa.num_classes) +
                     static_cast<std::size_t>(c)],
            number(target));
      }
    }
  }
  return WithoutDeadEnds(std::move(dfa));
}

}  // namespace yangtuo
