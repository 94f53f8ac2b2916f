#include "inference_core/grammar/nfa.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

// Every expression is built in front of what follows it. Without recursion of our own: a grammar
// may be nested thousands deep.
class NfaBuilder {
 public:
  NfaBuilder(const DfaSource& source, BuildBudget& budget) : source_(source), budget_(budget) {}

  absl::StatusOr<Nfa> Build(ExpressionId root) {
    const std::int32_t end = Add({.kind = Nfa::StateKind::kEnd});
    YANGTUO_RETURN_IF_ERROR(Begin(end, root));
    while (!open_.empty()) {
      YANGTUO_RETURN_IF_ERROR(GoOn());
    }
    nfa_.start = made_;
    return std::move(nfa_);
  }

 private:
  // An expression that is being built, from its end to its beginning.
  struct Open {
    ExpressionId id = 0;
    std::int32_t next = 0;   // what follows it
    std::int32_t start = 0;  // of the part that is built so far
    std::int32_t parts = 0;  // operands built so far, every repetition for itself
    bool waits = false;      // for made_, the start of the next part
    std::vector<std::int32_t> targets = {};
  };

  std::int32_t Add(Nfa::State state) {
    nfa_.states.push_back(std::move(state));
    return static_cast<std::int32_t>(nfa_.states.size() - 1);
  }

  // Sets made_, at once or when it is built, to where `id` followed by `next` begins. The same
  // question has the same answer, so that what the front ends share is shared here too.
  absl::Status Begin(std::int32_t next, ExpressionId id) {
    YANGTUO_RETURN_IF_ERROR(budget_.SpendSteps(10));
    if (const auto known = begun_.find({next, id}); known != begun_.end()) {
      made_ = known->second;
      return absl::OkStatus();
    }
    YANGTUO_RETURN_IF_ERROR(budget_.SpendNode());
    open_.push_back({.id = id, .next = next, .start = next});
    return absl::OkStatus();
  }

  void Finish(std::int32_t start) {
    begun_.emplace(std::pair(open_.back().next, open_.back().id), start);
    open_.pop_back();
    made_ = start;
  }

  // Takes the innermost open expression one part further.
  absl::Status GoOn() {
    Open& open = open_.back();
    const Expression& node = source_.expressions.node(open.id);
    switch (node.kind) {
      case ExpressionKind::kBytes:
        Finish(Add({.kind = Nfa::StateKind::kBytes,
                    .low = source_.classes.of_byte[static_cast<std::size_t>(node.low)],
                    .high = source_.classes.of_byte[static_cast<std::size_t>(node.high)],
                    .target = open.next}));
        return absl::OkStatus();
      case ExpressionKind::kCall: {
        const std::int32_t next = open.next;
        const std::int32_t call =
            Add({.kind = Nfa::StateKind::kCall, .low = node.low, .target = next});
        Finish(source_.nullable[static_cast<std::size_t>(node.low)]
                   ? Add({.kind = Nfa::StateKind::kSplit, .targets = {call, next}})
                   : call);
        return absl::OkStatus();
      }
      case ExpressionKind::kSequence: {
        if (open.waits) {
          open.start = made_;
        }
        const auto left = node.operands.size() - static_cast<std::size_t>(open.parts);
        if (left == 0) {
          Finish(open.start);
          return absl::OkStatus();
        }
        return Part(open.start, node.operands[left - 1]);
      }
      case ExpressionKind::kChoice: {
        if (open.waits) {
          open.targets.push_back(made_);
        }
        if (static_cast<std::size_t>(open.parts) == node.operands.size()) {
          Finish(Add({.kind = Nfa::StateKind::kSplit, .targets = std::move(open.targets)}));
          return absl::OkStatus();
        }
        return Part(open.next, node.operands[static_cast<std::size_t>(open.parts)]);
      }
      case ExpressionKind::kRepeat:
        return GoOnRepeat(node);
      case ExpressionKind::kBoth:
        return Combined(node, DfaOperation::kBoth);
      case ExpressionKind::kWithout:
        return Combined(node, DfaOperation::kWithout);
    }
    return absl::InternalError("unknown kind of expression");
  }

  absl::Status Part(std::int32_t next, ExpressionId id) {
    open_.back().waits = true;
    ++open_.back().parts;
    return Begin(next, id);
  }

  // First the part that may come any number of times, then those that may be left out, then those
  // that must be there.
  absl::Status GoOnRepeat(const Expression& node) {
    Open& open = open_.back();
    const std::int32_t unbounded = node.high < 0 ? 1 : 0;
    const std::int32_t optional = std::max(0, node.high - node.low);
    if (!open.waits && unbounded > 0) {
      open.start = Add({.kind = Nfa::StateKind::kSplit});
    } else if (open.waits && open.parts <= unbounded) {
      nfa_.states[static_cast<std::size_t>(open.start)].targets = {made_, open.next};
    } else if (open.waits && open.parts <= unbounded + optional) {
      // Nested, x(x(x)?)?, so that no state leads to many.
      open.start = Add({.kind = Nfa::StateKind::kSplit, .targets = {made_, open.next}});
    } else if (open.waits) {
      open.start = made_;
    }
    if (open.parts == unbounded + optional + node.low) {
      Finish(open.start);
      return absl::OkStatus();
    }
    return Part(open.start, node.operands[0]);
  }

  absl::Status Combined(const Expression& node, DfaOperation operation) {
    const std::int32_t next = open_.back().next;
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
      for (std::size_t i = 0; i < targets.size(); ++i) {
        YANGTUO_RETURN_IF_ERROR(budget_.SpendNode());
      }
      nfa_.states[static_cast<std::size_t>(first + state)].targets = std::move(targets);
    }
    Finish(first);
    return absl::OkStatus();
  }

  const DfaSource& source_;
  BuildBudget& budget_;
  Nfa nfa_;
  std::vector<Open> open_;
  std::int32_t made_ = 0;
  absl::flat_hash_map<std::pair<std::int32_t, ExpressionId>, std::int32_t> begun_;
};

}  // namespace

absl::StatusOr<Nfa> MakeNfa(const DfaSource& source, ExpressionId root, BuildBudget& budget) {
  return NfaBuilder(source, budget).Build(root);
}

}  // namespace yangtuo
