#include "inference_core/grammar/expression.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

// Ends of the code points that take 1, 2, 3 and 4 bytes.
constexpr std::uint32_t kLengthEnds[] = {0x7F, 0x7FF, 0xFFFF, kLastCodePoint};

}  // namespace

Expressions::Expressions() {
  nodes_.push_back({.kind = ExpressionKind::kSequence});  // Empty()
  nodes_.push_back({.kind = ExpressionKind::kChoice});    // Nothing()
}

absl::Status Expressions::CheckNotFull() const {
  return is_full_
             ? absl::InvalidArgumentError(absl::StrFormat(
                   "the grammar is too large: written out it has more than %d parts", kMostNodes))
             : absl::OkStatus();
}

ExpressionId Expressions::Add(Expression expression) {
  if (nodes_.size() >= kMostNodes) {
    is_full_ = true;
    return Nothing();
  }
  nodes_.push_back(std::move(expression));
  return static_cast<ExpressionId>(nodes_.size() - 1);
}

ExpressionId Expressions::Bytes(std::uint8_t low, std::uint8_t high) {
  return Add({.kind = ExpressionKind::kBytes, .low = low, .high = high});
}

ExpressionId Expressions::Literal(std::string_view bytes) {
  std::vector<ExpressionId> parts;
  for (const char c : bytes) {
    parts.push_back(Bytes(static_cast<std::uint8_t>(c), static_cast<std::uint8_t>(c)));
  }
  return Sequence(std::move(parts));
}

ExpressionId Expressions::Between(const std::string& low, const std::string& high, Digit tail) {
  return BetweenFrom(low, high, tail, 0);
}

// The first `at` bytes of both are the same and already said.
ExpressionId Expressions::BetweenFrom(const std::string& low, const std::string& high, Digit tail,
                                      std::size_t at) {
  if (at == low.size()) {
    return Empty();
  }
  const auto with_tail = [&](std::string text, char fill) {
    std::fill(text.begin() + static_cast<std::ptrdiff_t>(at) + 1, text.end(), fill);
    return text;
  };
  const bool low_is_whole = low == with_tail(low, tail.low);
  const bool high_is_whole = high == with_tail(high, tail.high);
  auto first = static_cast<std::uint8_t>(low[at]);
  auto last = static_cast<std::uint8_t>(high[at]);
  if (first == last || (low_is_whole && high_is_whole)) {
    return Sequence({Bytes(first, last), BetweenFrom(low, high, tail, at + 1)});
  }
  // What is left at either end, and the whole leading bytes between.
  std::vector<ExpressionId> parts;
  if (!low_is_whole) {
    parts.push_back(BetweenFrom(low, with_tail(low, tail.high), tail, at));
    ++first;
  }
  if (!high_is_whole) {
    parts.push_back(BetweenFrom(with_tail(high, tail.low), high, tail, at));
    --last;
  }
  if (first <= last) {
    std::string bottom = with_tail(low, tail.low);
    std::string top = with_tail(high, tail.high);
    bottom[at] = static_cast<char>(first);
    top[at] = static_cast<char>(last);
    parts.push_back(BetweenFrom(bottom, top, tail, at));
  }
  return Choice(std::move(parts));
}

ExpressionId Expressions::Characters(const CodePoints& set) {
  std::vector<ExpressionId> parts;
  for (const CodePoints::Range range : set.ranges()) {
    std::uint32_t low = range.low;
    for (const std::uint32_t end : kLengthEnds) {
      if (low <= range.high && low <= end) {
        const std::uint32_t high = std::min(range.high, end);
        parts.push_back(Between(ToUtf8(low), ToUtf8(high), {.low = '\x80', .high = '\xBF'}));
        low = high + 1;
      }
    }
  }
  return Choice(std::move(parts));
}

ExpressionId Expressions::Sequence(std::vector<ExpressionId> operands) {
  std::erase(operands, Empty());
  if (operands.size() == 1) {
    return operands[0];
  }
  if (operands.empty()) {
    return Empty();
  }
  if (std::count(operands.begin(), operands.end(), Nothing()) > 0) {
    return Nothing();
  }
  return Add({.kind = ExpressionKind::kSequence, .operands = std::move(operands)});
}

ExpressionId Expressions::Choice(std::vector<ExpressionId> operands) {
  std::erase(operands, Nothing());
  if (operands.size() == 1) {
    return operands[0];
  }
  if (operands.empty()) {
    return Nothing();
  }
  return Add({.kind = ExpressionKind::kChoice, .operands = std::move(operands)});
}

ExpressionId Expressions::Repeat(ExpressionId operand, std::int32_t low, std::int32_t high) {
  if (low == 1 && high == 1) {
    return operand;
  }
  return Add({.kind = ExpressionKind::kRepeat, .low = low, .high = high, .operands = {operand}});
}

ExpressionId Expressions::Call(RuleId rule) {
  return Add({.kind = ExpressionKind::kCall, .low = rule});
}

ExpressionId Expressions::Both(ExpressionId left, ExpressionId right) {
  return Add({.kind = ExpressionKind::kBoth, .operands = {left, right}});
}

ExpressionId Expressions::Without(ExpressionId left, ExpressionId right) {
  return Add({.kind = ExpressionKind::kWithout, .operands = {left, right}});
}

RuleId Expressions::AddRule(std::string name) {
  rules_.push_back({.name = std::move(name), .body = Nothing()});
  return static_cast<RuleId>(rules_.size() - 1);
}

namespace {

// What matches the empty text, found from the smallest parts up; linear in operands.
class NullableParts {
 public:
  explicit NullableParts(const Expressions& expressions)
      : expressions_(expressions),
        rules_(expressions.rules().size(), false),
        missing_(expressions.nodes().size(), 0),
        uses_(expressions.nodes().size()),
        calls_(rules_.size()),
        bodies_(expressions.nodes().size()) {
    for (std::size_t rule = 0; rule < rules_.size(); ++rule) {
      bodies_[At(expressions.rules()[rule].body)].push_back(static_cast<RuleId>(rule));
    }
    // Operands come before what they are part of.
    for (std::size_t i = 0; i < missing_.size(); ++i) {
      missing_[i] = MissingOf(static_cast<ExpressionId>(i));
      if (missing_[i] == 0) {
        Spread(static_cast<ExpressionId>(i));
      }
    }
  }

  [[nodiscard]] std::vector<bool> TakeRules() { return std::move(rules_); }

 private:
  static constexpr std::size_t At(std::int32_t id) { return static_cast<std::size_t>(id); }
  [[nodiscard]] bool IsNullable(ExpressionId id) const { return missing_[At(id)] == 0; }

  // How many of its operands have yet to be found nullable until `id` is; registers it with them.
  std::int32_t MissingOf(ExpressionId id) {
    constexpr std::int32_t kNever = 1;
    const Expression& node = expressions_.node(id);
    switch (node.kind) {
      case ExpressionKind::kBytes:
        return kNever;
      case ExpressionKind::kCall:
        calls_[At(node.low)].push_back(id);
        return rules_[At(node.low)] ? 0 : 1;
      case ExpressionKind::kWithout:  // calls nothing: its operands are known by now
        return IsNullable(node.operands[0]) && !IsNullable(node.operands[1]) ? 0 : kNever;
      case ExpressionKind::kRepeat:
        if (node.low == 0) {
          return 0;
        }
        break;
      default:
        break;
    }
    std::int32_t missing = 0;
    for (const ExpressionId operand : node.operands) {
      if (!IsNullable(operand)) {
        uses_[At(operand)].push_back(id);
        ++missing;
      }
    }
    const bool any = node.kind == ExpressionKind::kChoice;
    return !any ? missing : missing < static_cast<std::int32_t>(node.operands.size()) ? 0 : 1;
  }

  // `found` has become nullable, and with it perhaps what it is part of.
  void Spread(ExpressionId found) {
    std::vector<ExpressionId> open = {found};
    const auto lacks_one_less = [&](ExpressionId id) {
      if (missing_[At(id)] > 0 && --missing_[At(id)] == 0) {
        open.push_back(id);
      }
    };
    while (!open.empty()) {
      const std::size_t at = At(open.back());
      open.pop_back();
      for (const ExpressionId use : uses_[at]) {
        lacks_one_less(use);
      }
      for (const RuleId rule : bodies_[at]) {
        rules_[At(rule)] = true;
        for (const ExpressionId call : calls_[At(rule)]) {
          lacks_one_less(call);
        }
      }
    }
  }

  const Expressions& expressions_;
  std::vector<bool> rules_;
  std::vector<std::int32_t> missing_;             // [nodes]; 0: nullable
  std::vector<std::vector<ExpressionId>> uses_;   // [nodes] that wait for this one
  std::vector<std::vector<ExpressionId>> calls_;  // [rules]
  std::vector<std::vector<RuleId>> bodies_;       // [nodes]
};

}  // namespace

std::vector<bool> FindNullable(const Expressions& expressions) {
  return NullableParts(expressions).TakeRules();
}

}  // namespace yangtuo
