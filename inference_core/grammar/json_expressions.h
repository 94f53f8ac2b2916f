#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "inference_core/grammar/code_points.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// The parts of JSON (RFC 8259) as expressions, with white space only where pretty printers put it
// (see CompileGrammar) so that a model cannot go on with it for ever. Every part is made once.
class JsonExpressions {
 public:
  // Both must outlive this; rules are added when they are first needed.
  explicit JsonExpressions(Expressions& expressions) : expressions_(expressions) {}

  // Nothing, a space, or a line break with indentation.
  ExpressionId Break();
  // One character of a string, out of `characters`: as itself where JSON allows it, else escaped.
  ExpressionId Characters(const CodePoints& characters);
  // Any one character of a string, however it is escaped.
  ExpressionId AnyCharacter();
  ExpressionId AnyString();
  // `text` within quotes, however its characters are escaped.
  ExpressionId EverySpelling(std::string_view utf8);
  // As a number of a double's range; as a whole number of at most 18 digits.
  ExpressionId Number();
  ExpressionId Integer();
  ExpressionId AnyObject();
  ExpressionId AnyArray();
  ExpressionId AnyValue();
  // `items` are in brackets, with what belongs between them.
  ExpressionId Enclosed(std::string_view open, ExpressionId items, std::string_view close);
  // "," and what may follow it; a call, because there are many.
  ExpressionId Comma();
  // ":" and what may follow it.
  ExpressionId Colon();

 private:
  ExpressionId Hex(std::uint32_t code_unit);
  ExpressionId Escaped(std::uint32_t code_point);
  ExpressionId Range(char low, char high) {
    return expressions_.Bytes(static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high));
  }

  Expressions& expressions_;
  // Those of Characters, by the ends of their ranges: patterns repeat a few sets many times.
  std::map<std::vector<std::uint32_t>, ExpressionId> characters_;
  std::optional<ExpressionId> break_;
  std::optional<ExpressionId> any_character_;
  std::optional<ExpressionId> number_;
  std::optional<ExpressionId> integer_;
  std::optional<RuleId> comma_rule_;
  std::optional<RuleId> object_rule_;
  std::optional<RuleId> array_rule_;
};

}  // namespace yangtuo
