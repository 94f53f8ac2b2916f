#include "inference_core/grammar/expression.h"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace yangtuo {
namespace {

// Ends of the code points that take 1, 2, 3 and 4 bytes.
constexpr std::uint32_t kLengthEnds[] = {0x7F, 0x7FF, 0xFFFF, kLastCodePoint};

}  // namespace

Expressions::Expressions() {
  nodes_.push_back({.kind = ExpressionKind::kSequence});  // Empty()
  nodes_.push_back({.kind = ExpressionKind::kChoice});    // Nothing()
}

ExpressionId Expressions::Add(Expression expression) {
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

std::vector<bool> FindNullable(const Expressions& expressions) {
  std::vector<bool> rules(expressions.rules().size(), false);
  std::vector<bool> nodes(expressions.nodes().size(), false);
  const auto is_nullable = [&](ExpressionId id) { return nodes[static_cast<std::size_t>(id)]; };
  for (bool changed = true; changed;) {
    changed = false;
    // Operands come before what they are part of.
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const Expression& node = expressions.nodes()[i];
      const auto& operands = node.operands;
      switch (node.kind) {
        case ExpressionKind::kBytes:
          break;
        case ExpressionKind::kSequence:
        case ExpressionKind::kBoth:
          nodes[i] = std::all_of(operands.begin(), operands.end(), is_nullable);
          break;
        case ExpressionKind::kChoice:
          nodes[i] = std::any_of(operands.begin(), operands.end(), is_nullable);
          break;
        case ExpressionKind::kRepeat:
          nodes[i] = node.low == 0 || is_nullable(operands[0]);
          break;
        case ExpressionKind::kCall:
          nodes[i] = rules[static_cast<std::size_t>(node.low)];
          break;
        case ExpressionKind::kWithout:
          nodes[i] = is_nullable(operands[0]) && !is_nullable(operands[1]);
          break;
      }
    }
    for (std::size_t rule = 0; rule < rules.size(); ++rule) {
      if (!rules[rule] && is_nullable(expressions.rules()[rule].body)) {
        rules[rule] = true;
        changed = true;
      }
    }
  }
  return rules;
}

}  // namespace yangtuo
