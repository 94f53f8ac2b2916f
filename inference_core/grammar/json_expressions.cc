#include "inference_core/grammar/json_expressions.h"

#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

constexpr std::int32_t kMostSpaces = 32;
constexpr std::int32_t kMostTabs = 8;
constexpr std::int32_t kMostDigits = 20;
constexpr std::int32_t kMostIntegerDigits = 18;  // any such number is a 64-bit integer

// Characters that have an escape of two characters, and its second one.
struct ShortEscape {
  std::uint32_t code_point = 0;
  std::string_view escape = {};
};
constexpr ShortEscape kShortEscapes[] = {{'"', "\\\""}, {'\\', "\\\\"}, {'\b', "\\b"},
                                         {'\f', "\\f"}, {'\n', "\\n"},  {'\r', "\\r"},
                                         {'\t', "\\t"}};

CodePoints Controls() { return {0, 0x1F}; }

// What a string may hold as it is.
CodePoints Plain() {
  CodePoints escaped = Controls();
  escaped.Add('"', '"');
  escaped.Add('\\', '\\');
  return escaped.Inverse();
}

}  // namespace

ExpressionId JsonExpressions::Break() {
  if (!break_.has_value()) {
    const ExpressionId indentation =
        expressions_.Choice({expressions_.Repeat(expressions_.Literal(" "), 0, kMostSpaces),
                             expressions_.Repeat(expressions_.Literal("\t"), 1, kMostTabs)});
    break_ =
        expressions_.Choice({expressions_.Empty(), expressions_.Literal(" "),
                             expressions_.Sequence({expressions_.Literal("\n"), indentation})});
  }
  return *break_;
}

ExpressionId JsonExpressions::Hex(std::uint32_t code_unit) {
  std::vector<ExpressionId> parts = {expressions_.Literal("\\u")};
  const std::string digits = absl::StrFormat("%04x", code_unit);
  for (const char c : digits) {
    std::vector<ExpressionId> cases = {Range(c, c)};
    if (c > '9') {
      const auto upper = static_cast<char>(c - 'a' + 'A');
      cases.push_back(Range(upper, upper));
    }
    parts.push_back(expressions_.Choice(std::move(cases)));
  }
  return expressions_.Sequence(std::move(parts));
}

ExpressionId JsonExpressions::Escaped(std::uint32_t code_point) {
  for (const ShortEscape& known : kShortEscapes) {
    if (known.code_point == code_point) {
      return expressions_.Literal(known.escape);
    }
  }
  return Hex(code_point);
}

ExpressionId JsonExpressions::Characters(const CodePoints& characters) {
  std::vector<std::uint32_t> key;
  for (const CodePoints::Range range : characters.ranges()) {
    key.push_back(range.low);
    key.push_back(range.high);
  }
  const auto [made, is_new] = characters_.try_emplace(std::move(key));
  if (!is_new) {
    return made->second;
  }
  std::vector<ExpressionId> parts = {expressions_.Characters(characters.And(Plain()))};
  const CodePoints escaped = characters.Without(Plain());
  for (const CodePoints::Range range : escaped.ranges()) {
    for (std::uint32_t one = range.low; one <= range.high; ++one) {
      parts.push_back(Escaped(one));
    }
  }
  return made->second = expressions_.Choice(std::move(parts));
}

ExpressionId JsonExpressions::AnyCharacter() {
  if (!any_character_.has_value()) {
    const ExpressionId digit = Range('0', '9');
    const ExpressionId hex = expressions_.Choice({digit, Range('a', 'f'), Range('A', 'F')});
    const ExpressionId d = expressions_.Choice({Range('d', 'd'), Range('D', 'D')});
    // \uD8xx to \uDBxx followed by \uDCxx to \uDFxx.
    const ExpressionId high_surrogate = expressions_.Sequence(
        {d, expressions_.Choice({Range('8', '9'), Range('a', 'b'), Range('A', 'B')}), hex, hex});
    const ExpressionId low_surrogate = expressions_.Sequence(
        {d, expressions_.Choice({Range('c', 'f'), Range('C', 'F')}), hex, hex});
    const ExpressionId other = expressions_.Choice(
        {expressions_.Sequence({expressions_.Choice({digit, Range('a', 'c'), Range('A', 'C'),
                                                     Range('e', 'f'), Range('E', 'F')}),
                                hex, hex, hex}),
         expressions_.Sequence({d, Range('0', '7'), hex, hex})});
    any_character_ = expressions_.Choice(
        {expressions_.Characters(Plain()),
         expressions_.Sequence(
             {expressions_.Literal("\\"),
              expressions_.Choice(
                  {Range('"', '"'), Range('\\', '\\'), Range('/', '/'), Range('b', 'b'),
                   Range('f', 'f'), Range('n', 'n'), Range('r', 'r'), Range('t', 't'),
                   expressions_.Sequence({Range('u', 'u'), other}),
                   expressions_.Sequence({Range('u', 'u'), high_surrogate,
                                          expressions_.Literal("\\u"), low_surrogate})})})});
  }
  return *any_character_;
}

ExpressionId JsonExpressions::AnyString() {
  return Enclosed("\"", expressions_.Repeat(AnyCharacter(), 0, -1), "\"");
}

ExpressionId JsonExpressions::EverySpelling(std::string_view utf8) {
  std::vector<ExpressionId> parts;
  while (const std::optional<std::uint32_t> one = TakeCodePoint(utf8)) {
    std::vector<ExpressionId> spellings = {Characters({*one, *one})};
    if (*one == '/') {
      spellings.push_back(expressions_.Literal("\\/"));
    }
    if (*one < 0x10000) {
      spellings.push_back(Hex(*one));
    } else {
      spellings.push_back(expressions_.Sequence(
          {Hex(0xD800 + ((*one - 0x10000) >> 10U)), Hex(0xDC00 + (*one & 0x3FFU))}));
    }
    parts.push_back(expressions_.Choice(std::move(spellings)));
  }
  return Enclosed("\"", expressions_.Sequence(std::move(parts)), "\"");
}

ExpressionId JsonExpressions::Number() {
  if (!number_.has_value()) {
    const ExpressionId digit = Range('0', '9');
    const auto digits = [&](std::int32_t low, std::int32_t high) {
      return expressions_.Repeat(digit, low, high);
    };
    const ExpressionId minus = expressions_.Optional(expressions_.Literal("-"));
    const ExpressionId whole = expressions_.Choice(
        {Range('0', '0'), expressions_.Sequence({Range('1', '9'), digits(0, kMostDigits - 1)})});
    const ExpressionId fraction = expressions_.Optional(
        expressions_.Sequence({expressions_.Literal("."), digits(1, kMostDigits)}));
    const ExpressionId e = expressions_.Choice({Range('e', 'e'), Range('E', 'E')});
    const ExpressionId plus = expressions_.Optional(expressions_.Literal("+"));
    // Exponents that no mantissa takes beyond a double's 1.8e308: readers refuse such numbers.
    const ExpressionId exponent = expressions_.Optional(expressions_.Sequence(
        {e,
         expressions_.Choice({expressions_.Sequence({plus, digits(1, 2)}),
                              expressions_.Sequence({expressions_.Literal("-"), digits(1, 3)})})}));
    const ExpressionId large_exponent = expressions_.Sequence(
        {e, plus,
         expressions_.Choice(
             {expressions_.Sequence({Range('1', '2'), digits(2, 2)}),
              expressions_.Sequence({expressions_.Literal("30"), Range('0', '7')})})});
    number_ = expressions_.Sequence(
        {minus, expressions_.Choice({expressions_.Sequence({whole, fraction, exponent}),
                                     expressions_.Sequence({digit, fraction, large_exponent})})});
  }
  return *number_;
}

ExpressionId JsonExpressions::Integer() {
  if (!integer_.has_value()) {
    integer_ = expressions_.Choice(
        {Range('0', '0'),
         expressions_.Sequence({expressions_.Optional(expressions_.Literal("-")), Range('1', '9'),
                                expressions_.Repeat(Range('0', '9'), 0, kMostIntegerDigits - 1)})});
  }
  return *integer_;
}

ExpressionId JsonExpressions::Comma() {
  if (!comma_rule_.has_value()) {
    comma_rule_ = expressions_.AddRule("a comma");
    expressions_.DefineRule(*comma_rule_,
                            expressions_.Sequence({expressions_.Literal(","), Break()}));
  }
  return expressions_.Call(*comma_rule_);
}

ExpressionId JsonExpressions::Colon() {
  return expressions_.Sequence(
      {expressions_.Literal(":"), expressions_.Optional(expressions_.Literal(" "))});
}

ExpressionId JsonExpressions::Enclosed(std::string_view open, ExpressionId items,
                                       std::string_view close) {
  return expressions_.Sequence({expressions_.Literal(open), items, expressions_.Literal(close)});
}

ExpressionId JsonExpressions::AnyObject() {
  if (!object_rule_.has_value()) {
    object_rule_ = expressions_.AddRule("a JSON object");
    const ExpressionId member = expressions_.Sequence({AnyString(), Colon(), AnyValue()});
    const ExpressionId more = expressions_.Repeat(expressions_.Sequence({Comma(), member}), 0, -1);
    const ExpressionId members = expressions_.Sequence({Break(), member, more, Break()});
    expressions_.DefineRule(*object_rule_, Enclosed("{", expressions_.Optional(members), "}"));
  }
  return expressions_.Call(*object_rule_);
}

ExpressionId JsonExpressions::AnyArray() {
  if (!array_rule_.has_value()) {
    array_rule_ = expressions_.AddRule("a JSON array");
    const ExpressionId item = AnyValue();
    const ExpressionId more = expressions_.Repeat(expressions_.Sequence({Comma(), item}), 0, -1);
    const ExpressionId items = expressions_.Sequence({Break(), item, more, Break()});
    expressions_.DefineRule(*array_rule_, Enclosed("[", expressions_.Optional(items), "]"));
  }
  return expressions_.Call(*array_rule_);
}

ExpressionId JsonExpressions::AnyValue() {
  return expressions_.Choice({AnyString(), Number(), expressions_.Literal("true"),
                              expressions_.Literal("false"), expressions_.Literal("null"),
                              AnyObject(), AnyArray()});
}

}  // namespace yangtuo
