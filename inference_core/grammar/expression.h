#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "inference_core/grammar/code_points.h"

namespace yangtuo {

// A node of Expressions.
using ExpressionId = std::int32_t;
// A rule of Expressions.
using RuleId = std::int32_t;

enum class ExpressionKind : std::uint8_t {
  kBytes,     // one byte of [low, high]
  kSequence,  // all operands in order; without any, the empty text
  kChoice,    // one of the operands; without any, nothing at all
  kRepeat,    // the operand `low` to `high` times; high -1: any number
  kCall,      // what rule `low` matches
  kBoth,      // what both operands match; they call nothing
  kWithout,   // what the first operand matches and the second does not; they call nothing
};

struct Expression {
  ExpressionKind kind = ExpressionKind::kSequence;
  std::int32_t low = 0;
  std::int32_t high = 0;
  std::vector<ExpressionId> operands = {};
};

// The rules of a grammar as trees over bytes: what the front ends make and BuildAutomaton compiles.
// Nodes may be shared; only rules make it recursive. Rule 0 is the grammar's root.
//
// Bounded: beyond kMostNodes nothing is added, and the result means nothing any more. Front ends
// ask CheckNotFull() wherever they go on for as long as their text does.
class Expressions {
 public:
  static constexpr std::size_t kMostNodes = 1'000'000;

  Expressions();

  // INVALID_ARGUMENT when nodes were left out.
  [[nodiscard]] absl::Status CheckNotFull() const;

  ExpressionId Bytes(std::uint8_t low, std::uint8_t high);
  ExpressionId Literal(std::string_view bytes);
  // Every text from `low` to `high` in the order of bytes, which are of one length; after the first
  // byte, bytes are of the range `tail`, as in UTF-8 and in decimal numbers.
  struct Digit {
    char low = 0;
    char high = 0;
  };
  ExpressionId Between(const std::string& low, const std::string& high, Digit tail);
  // One character, in UTF-8.
  ExpressionId Characters(const CodePoints& set);
  ExpressionId Sequence(std::vector<ExpressionId> operands);
  ExpressionId Choice(std::vector<ExpressionId> operands);
  ExpressionId Repeat(ExpressionId operand, std::int32_t low, std::int32_t high);
  ExpressionId Optional(ExpressionId operand) { return Choice({Empty(), operand}); }
  ExpressionId Call(RuleId rule);
  ExpressionId Both(ExpressionId left, ExpressionId right);
  ExpressionId Without(ExpressionId left, ExpressionId right);
  [[nodiscard]] ExpressionId Empty() const { return 0; }
  [[nodiscard]] ExpressionId Nothing() const { return 1; }

  // A rule that is defined later; `name` is for messages.
  RuleId AddRule(std::string name);
  void DefineRule(RuleId rule, ExpressionId body) {
    rules_[static_cast<std::size_t>(rule)].body = body;
  }

  struct Rule {
    std::string name;
    ExpressionId body = 0;
  };
  [[nodiscard]] const std::vector<Rule>& rules() const { return rules_; }
  [[nodiscard]] const std::vector<Expression>& nodes() const { return nodes_; }
  [[nodiscard]] const Expression& node(ExpressionId id) const {
    return nodes_[static_cast<std::size_t>(id)];
  }

 private:
  ExpressionId Add(Expression expression);
  ExpressionId BetweenFrom(const std::string& low, const std::string& high, Digit tail,
                           std::size_t at);

  bool is_full_ = false;
  std::vector<Expression> nodes_;
  std::vector<Rule> rules_;
};

// [rules]: whether each matches the empty text.
[[nodiscard]] std::vector<bool> FindNullable(const Expressions& expressions);

}  // namespace yangtuo
