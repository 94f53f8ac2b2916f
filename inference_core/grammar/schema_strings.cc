#include "inference_core/grammar/schema_strings.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/regex_parser.h"

namespace yangtuo {
namespace {

// Characters of one call of a long string; more is written as several calls, because every
// character of a string takes some 20 states.
constexpr std::int32_t kChunk = 64;

constexpr std::string_view kFormatNames =
    "date, time, date-time, duration, uuid, ipv4, ipv6, hostname, email, uri";

// Months with the days they have, February 29 in leap years only (RFC 3339).
constexpr char kDate[] =
    "(\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|"
    "02-(0[1-9]|1\\d|2[0-8]))|"
    "(\\d\\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)";
constexpr char kTime[] =
    "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,9})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";

std::string UriRegex() {
  const std::string plain = "A-Za-z0-9._~!$&'()*+,;=:@-";
  const std::string any = "([/?" + plain + "]|%[0-9A-Fa-f]{2})*";
  return "[A-Za-z][A-Za-z0-9+.-]{0,15}:(//)?([" + plain + "]|%[0-9A-Fa-f]{2})" + any + "(#" + any +
         ")?";
}

std::string DurationRegex() {
  const std::string n = "\\d{1,9}";
  const std::string minutes = n + "M(" + n + "S)?";
  const std::string time = "T(" + n + "H(" + minutes + ")?|" + minutes + "|" + n + "S)";
  const std::string months = n + "M(" + n + "D)?";
  const std::string date = "(" + n + "Y(" + months + ")?|" + months + "|" + n + "D)";
  return "P(" + n + "W|" + date + "(" + time + ")?|" + time + ")";
}

// Empty: no format that is known.
std::string RegexOfFormat(std::string_view name) {
  const std::string label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
  if (name == "date") {
    return kDate;
  }
  if (name == "time") {
    return kTime;
  }
  if (name == "date-time") {
    return std::string(kDate) + "T" + kTime;
  }
  if (name == "duration") {
    return DurationRegex();
  }
  if (name == "uuid") {
    return "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}";
  }
  if (name == "ipv4") {
    const std::string number = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
    return "(" + number + "\\.){3}" + number;
  }
  if (name == "ipv6") {
    const std::string group = "[0-9a-fA-F]{1,4}";
    std::string regex = absl::StrFormat("(%s:){7}%s|(%s:){6}:", group, group, group);
    for (int before = 0; before < 6;
         ++before) {  // groups before "::", which stands for two or more
      regex += absl::StrFormat("|%s:(%s(:%s){0,%d})?",
                               before == 0 ? ":" : absl::StrFormat("(%s:){%d}", group, before),
                               group, group, 5 - before);
    }
    return regex;
  }
  if (name == "hostname") {
    return label + "(\\." + label + "){0,3}";
  }
  if (name == "email") {
    return "[A-Za-z0-9_%+-]{1,32}(\\.[A-Za-z0-9_%+-]{1,16}){0,2}@" + label + "(\\." + label +
           "){1,3}";
  }
  return name == "uri" ? UriRegex() : "";
}

// Between `low` and `high` characters (-1: any number), however many that is.
ExpressionId Characters(std::int32_t low, std::int32_t high, JsonExpressions& json,
                        Expressions& expressions) {
  const ExpressionId one = json.AnyCharacter();
  if (high < 0 ? low <= kChunk : high <= 2 * kChunk) {
    return expressions.Repeat(one, low, high);
  }
  const RuleId whole = expressions.AddRule("a part of a string");
  expressions.DefineRule(whole, expressions.Repeat(one, kChunk, kChunk));
  std::vector<ExpressionId> parts(static_cast<std::size_t>(low / kChunk), expressions.Call(whole));
  parts.push_back(expressions.Repeat(one, low % kChunk, low % kChunk));
  if (high < 0) {
    parts.push_back(expressions.Repeat(one, 0, -1));
    return expressions.Sequence(std::move(parts));
  }
  // Any number of whole parts, then less than one more.
  const std::int32_t more = high - low;
  const RuleId partial = expressions.AddRule("the last part of a string");
  expressions.DefineRule(partial, expressions.Repeat(one, 0, kChunk - 1));
  ExpressionId rest = expressions.Repeat(one, 0, more % kChunk);
  for (std::int32_t i = 0; i < more / kChunk; ++i) {
    rest = expressions.Choice(
        {expressions.Call(partial), expressions.Sequence({expressions.Call(whole), rest})});
  }
  parts.push_back(rest);
  return expressions.Sequence(std::move(parts));
}

absl::StatusOr<ExpressionId> OfFormat(const std::string& name, const RegexOptions& options,
                                      Expressions& expressions) {
  const std::string regex = RegexOfFormat(name);
  if (regex.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("'format' %s is not supported; known ones: %s", name, kFormatNames));
  }
  return ParseRegex(regex, options, expressions);
}

}  // namespace

absl::StatusOr<ExpressionId> MakeString(const StringConstraints& constraints, JsonExpressions& json,
                                        Expressions& expressions) {
  const std::int32_t high = constraints.max_length.value_or(-1);
  if (high >= 0 && high < constraints.min_length) {
    return expressions.Nothing();
  }
  RegexOptions options{.write = [&](const CodePoints& set) { return json.Characters(set); }};
  std::optional<ExpressionId> text;
  if (constraints.format.has_value()) {
    YANGTUO_ASSIGN_OR_RETURN(text, OfFormat(*constraints.format, options, expressions));
  }
  if (constraints.pattern.has_value()) {
    options.match = RegexOptions::Match::kAnywhere;
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId pattern,
                             ParseRegex(*constraints.pattern, options, expressions));
    text = text.has_value() ? expressions.Both(*text, pattern) : pattern;
  }
  if (!text.has_value()) {
    text = Characters(constraints.min_length, high, json, expressions);
  } else if (constraints.min_length > 0 || high >= 0) {
    text = expressions.Both(*text,
                            expressions.Repeat(json.AnyCharacter(), constraints.min_length, high));
  }
  return json.Enclosed("\"", *text, "\"");
}

}  // namespace yangtuo
