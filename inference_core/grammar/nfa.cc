#include "inference_core/grammar/nfa.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

// Every expression is built in front of what follows it.
class NfaBuilder {
 public:
  NfaBuilder(const DfaSource& source, BuildBudget& budget) : source_(source), budget_(budget) {}

  absl::StatusOr<Nfa> Build(ExpressionId root) {
    const std::int32_t end = Add({.kind = Nfa::StateKind::kEnd});
    YANGTUO_ASSIGN_OR_RETURN(nfa_.start, Before(end, root));
    return std::move(nfa_);
  }

 private:
  std::int32_t Add(Nfa::State state) {
    nfa_.states.push_back(std::move(state));
    return static_cast<std::int32_t>(nfa_.states.size() - 1);
  }

  // Where `id` followed by `next` begins; the same question has the same answer, so that what the
  // front ends share is shared here too.
  absl::StatusOr<std::int32_t> Before(std::int32_t next, ExpressionId id) {
    YANGTUO_RETURN_IF_ERROR(budget_.SpendSteps(10));
    if (const auto known = begun_.find({next, id}); known != begun_.end()) {
      return known->second;
    }
    YANGTUO_ASSIGN_OR_RETURN(const std::int32_t start, Make(next, id));
    begun_.emplace(std::pair(next, id), start);
    return start;
  }

  absl::StatusOr<std::int32_t> Make(std::int32_t next, ExpressionId id) {
    const Expression& node = source_.expressions.node(id);
    switch (node.kind) {
      case ExpressionKind::kBytes:
        return Add({.kind = Nfa::StateKind::kBytes,
                    .low = source_.classes.of_byte[static_cast<std::size_t>(node.low)],
                    .high = source_.classes.of_byte[static_cast<std::size_t>(node.high)],
                    .target = next});
      case ExpressionKind::kCall: {
        const std::int32_t call =
            Add({.kind = Nfa::StateKind::kCall, .low = node.low, .target = next});
        return source_.nullable[static_cast<std::size_t>(node.low)]
                   ? Add({.kind = Nfa::StateKind::kSplit, .targets = {call, next}})
                   : call;
      }
      case ExpressionKind::kSequence: {
        for (std::size_t i = node.operands.size(); i-- > 0;) {
          YANGTUO_ASSIGN_OR_RETURN(next, Before(next, node.operands[i]));
        }
        return next;
      }
      case ExpressionKind::kChoice: {
        Nfa::State split{.kind = Nfa::StateKind::kSplit};
        for (const ExpressionId operand : node.operands) {
          YANGTUO_ASSIGN_OR_RETURN(const std::int32_t target, Before(next, operand));
          split.targets.push_back(target);
        }
        return Add(std::move(split));
      }
      case ExpressionKind::kRepeat:
        return BeforeRepeat(next, node);
      case ExpressionKind::kBoth:
        return BeforeCombined(next, node, DfaOperation::kBoth);
      case ExpressionKind::kWithout:
        return BeforeCombined(next, node, DfaOperation::kWithout);
    }
    return absl::InternalError("unknown kind of expression");
  }

  absl::StatusOr<std::int32_t> BeforeRepeat(std::int32_t next, const Expression& node) {
    const ExpressionId operand = node.operands[0];
    std::int32_t start = next;
    if (node.high < 0) {
      start = Add({.kind = Nfa::StateKind::kSplit});
      YANGTUO_ASSIGN_OR_RETURN(const std::int32_t again, Before(start, operand));
      nfa_.states[static_cast<std::size_t>(start)].targets = {again, next};
    }
    // Those that may be left out are nested, x(x(x)?)?, so that no state leads to many.
    for (std::int32_t i = node.low; i < node.high; ++i) {
      YANGTUO_ASSIGN_OR_RETURN(const std::int32_t once, Before(start, operand));
      start = Add({.kind = Nfa::StateKind::kSplit, .targets = {once, next}});
    }
    for (std::int32_t i = 0; i < node.low; ++i) {
      YANGTUO_ASSIGN_OR_RETURN(start, Before(start, operand));
    }
    return start;
  }

  absl::StatusOr<std::int32_t> BeforeCombined(std::int32_t next, const Expression& node,
                                              DfaOperation operation) {
    YANGTUO_ASSIGN_OR_RETURN(const Dfa left, MakeDfa(source_, node.operands[0], budget_));
    YANGTUO_ASSIGN_OR_RETURN(const Dfa right, MakeDfa(source_, node.operands[1], budget_));
    YANGTUO_ASSIGN_OR_RETURN(const Dfa dfa, Combine(left, right, operation, budget_));
    const auto first = static_cast<std::int32_t>(nfa_.states.size());
    for (std::int32_t state = 0; state < dfa.num_states(); ++state) {
      Add({.kind = Nfa::StateKind::kSplit});
    }
    for (std::int32_t state = 0; state < dfa.num_states(); ++state) {
      std::vector<std::int32_t> targets;
      if (dfa.accepts[static_cast<std::size_t>(state)] != 0) {
        targets.push_back(next);
      }
      for (std::int32_t low = 0; low < dfa.num_classes;) {
        const std::int32_t target = dfa.Next(state, low);
        std::int32_t end = low + 1;
        while (end < dfa.num_classes && dfa.Next(state, end) == target) {
          ++end;
        }
        if (target >= 0) {
          targets.push_back(Add({.kind = Nfa::StateKind::kBytes,
                                 .low = low,
                                 .high = end - 1,
                                 .target = first + target}));
        }
        low = end;
      }
      YANGTUO_RETURN_IF_ERROR(budget_.SpendSteps(dfa.num_classes));
      nfa_.states[static_cast<std::size_t>(first + state)].targets = std::move(targets);
    }
    return first;
  }

  const DfaSource& source_;
  BuildBudget& budget_;
  Nfa nfa_;
  absl::flat_hash_map<std::pair<std::int32_t, ExpressionId>, std::int32_t> begun_;
};

}  // namespace

absl::StatusOr<Nfa> MakeNfa(const DfaSource& source, ExpressionId root, BuildBudget& budget) {
  return NfaBuilder(source, budget).Build(root);
}

}  // namespace yangtuo
