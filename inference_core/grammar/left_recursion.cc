#include "inference_core/grammar/left_recursion.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace yangtuo {
namespace {

class LeftRecursionCheck {
 public:
  explicit LeftRecursionCheck(const RuleStates& states)
      : states_(states), marks_(states.rule_starts.size(), Mark::kNew) {}

  // The rule that does; -1: none. Without recursion of our own: chains of rules may be long.
  RuleId Find() {
    for (std::size_t rule = 0; rule < marks_.size(); ++rule) {
      if (states_.rule_starts[rule] < 0 || marks_[rule] != Mark::kNew) {
        continue;
      }
      std::vector<Visit> path;
      Enter(static_cast<RuleId>(rule), path);
      while (!path.empty()) {
        Visit& visit = path.back();
        if (visit.callees.empty()) {
          marks_[static_cast<std::size_t>(visit.rule)] = Mark::kDone;
          path.pop_back();
          continue;
        }
        const RuleId callee = visit.callees.back();
        visit.callees.pop_back();
        const Mark mark = marks_[static_cast<std::size_t>(callee)];
        if (mark == Mark::kOpen) {
          return callee;
        }
        if (mark == Mark::kNew) {
          Enter(callee, path);
        }
      }
    }
    return -1;
  }

 private:
  enum class Mark { kNew, kOpen, kDone };
  struct Visit {
    RuleId rule = 0;
    std::vector<RuleId> callees = {};
  };

  void Enter(RuleId rule, std::vector<Visit>& path) {
    marks_[static_cast<std::size_t>(rule)] = Mark::kOpen;
    path.push_back({.rule = rule, .callees = FirstCalls(rule)});
  }

  // What `rule` may call before any byte: calls that match the empty text are passed over.
  [[nodiscard]] std::vector<RuleId> FirstCalls(RuleId rule) const {
    std::vector<RuleId> callees;
    std::vector<std::int32_t> reached = {states_.StartOf(rule)};
    for (std::size_t i = 0; i < reached.size(); ++i) {
      for (const Dfa::Call& call : states_.calls[static_cast<std::size_t>(reached[i])]) {
        callees.push_back(call.rule);
        // What matches the empty text accepts where it starts.
        if (states_.accepts[static_cast<std::size_t>(states_.StartOf(call.rule))] != 0 &&
            std::find(reached.begin(), reached.end(), call.target) == reached.end()) {
          reached.push_back(call.target);
        }
      }
    }
    return callees;
  }

  const RuleStates& states_;
  std::vector<Mark> marks_;
};

}  // namespace

RuleId FindLeftRecursion(const RuleStates& states) { return LeftRecursionCheck(states).Find(); }

}  // namespace yangtuo
