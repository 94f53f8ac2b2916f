#include "inference_core/grammar/schema_kinds.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/grammar/code_points.h"
#include "inference_core/grammar/json_numbers.h"
#include "inference_core/grammar/schema_containers.h"
#include "inference_core/grammar/schema_keywords.h"
#include "inference_core/grammar/schema_strings.h"

namespace yangtuo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kTypes[] = {"array",  "boolean", "integer", "null",
                                       "number", "object",  "string"};
constexpr std::size_t kMostValues = 10'000;

std::string_view TypeOfValue(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "boolean";
    case Json::value_t::string:
      return "string";
    case Json::value_t::array:
      return "array";
    case Json::value_t::object:
      return "object";
    default:
      break;
  }
  const auto number = value.get<double>();
  return number == std::floor(number) ? "integer" : "number";
}

class KindCompiler {
 public:
  KindCompiler(const Json& schema, const SchemaPlace& place, SchemaValues& values,
               JsonExpressions& json, Expressions& expressions)
      : schema_(schema), place_(place), values_(values), json_(json), expressions_(expressions) {}

  absl::StatusOr<ExpressionId> Run() {
    YANGTUO_RETURN_IF_ERROR(FindTypes());
    if (schema_.contains("enum") || schema_.contains("const")) {
      return ListedValues();
    }
    if (types_.size() == std::size(kTypes) && !SaysSomethingOfAType()) {
      return json_.AnyValue();
    }
    std::vector<ExpressionId> alternatives;
    for (const std::string& type : types_) {
      if (type == "integer" && types_.contains("number")) {
        continue;
      }
      YANGTUO_ASSIGN_OR_RETURN(const ExpressionId alternative, OfType(type));
      alternatives.push_back(alternative);
    }
    return expressions_.Choice(std::move(alternatives));
  }

 private:
  // What "type" says; without it the types that other keywords are about; without those all.
  absl::Status FindTypes() {
    if (schema_.contains("type")) {
      const Json& given = schema_["type"];
      const Json list = given.is_array() ? given : Json::array({given});
      for (const Json& type : list) {
        if (!type.is_string() || std::find(std::begin(kTypes), std::end(kTypes),
                                           type.get<std::string>()) == std::end(kTypes)) {
          return place_.Fault(absl::StrFormat("unknown 'type' %s", Shown(type)));
        }
        types_.insert(type.get<std::string>());
      }
      if (schema_.value("nullable", Json(false)) == Json(true)) {
        types_.insert("null");
      }
      return absl::OkStatus();
    }
    for (const auto& [key, value] : schema_.items()) {
      if (const std::string_view type = TypeOfKeyword(key); !type.empty()) {
        types_.emplace(type);
      }
    }
    if (types_.empty() || schema_.contains("enum") || schema_.contains("const")) {
      types_.insert(std::begin(kTypes), std::end(kTypes));
    }
    return absl::OkStatus();
  }

  [[nodiscard]] bool SaysSomethingOfAType() const {
    for (const auto& [key, value] : schema_.items()) {
      if (!TypeOfKeyword(key).empty()) {
        return true;
      }
    }
    return false;
  }

  absl::StatusOr<ExpressionId> OfType(const std::string& type) {
    if (type == "null") {
      return expressions_.Literal("null");
    }
    if (type == "boolean") {
      return expressions_.Choice({expressions_.Literal("true"), expressions_.Literal("false")});
    }
    if (type == "string") {
      YANGTUO_ASSIGN_OR_RETURN(const StringConstraints constraints, Strings());
      return Placed(MakeString(constraints, json_, expressions_));
    }
    if (type == "array") {
      return MakeArray(schema_, place_, values_, json_, expressions_);
    }
    if (type == "object") {
      return MakeObject(schema_, place_, values_, json_, expressions_);
    }
    YANGTUO_ASSIGN_OR_RETURN(const NumberRange range, Range());
    const bool is_bounded = range.low.has_value() || range.high.has_value();
    if (type == "integer") {
      return is_bounded ? IntegersWithin(range, expressions_) : json_.Integer();
    }
    if (schema_.contains("multipleOf")) {
      return place_.Fault("'multipleOf' is not supported (but 1 for integers)");
    }
    return is_bounded ? Placed(NumbersWithin(range, expressions_)) : json_.Number();
  }

  absl::StatusOr<ExpressionId> Placed(absl::StatusOr<ExpressionId> made) const {
    return made.ok() ? made : place_.Fault(std::string(made.status().message()));
  }

  absl::StatusOr<StringConstraints> Strings() const {
    StringConstraints constraints;
    YANGTUO_ASSIGN_OR_RETURN(const std::optional<std::int32_t> low,
                             CountOf(schema_, "minLength", place_));
    constraints.min_length = low.value_or(0);
    YANGTUO_ASSIGN_OR_RETURN(constraints.max_length, CountOf(schema_, "maxLength", place_));
    YANGTUO_ASSIGN_OR_RETURN(constraints.pattern, Text("pattern"));
    YANGTUO_ASSIGN_OR_RETURN(constraints.format, Text("format"));
    return constraints;
  }

  absl::StatusOr<std::optional<std::string>> Text(const char* key) const {
    if (!schema_.contains(key)) {
      return std::nullopt;
    }
    if (!schema_[key].is_string()) {
      return place_.Fault(absl::StrFormat("'%s' is not a string", key));
    }
    return schema_[key].get<std::string>();
  }

  absl::StatusOr<NumberRange> Range() const {
    if (schema_.contains("multipleOf") && schema_["multipleOf"] != Json(1)) {
      return place_.Fault("'multipleOf' is not supported (but 1 for integers)");
    }
    NumberRange range;
    YANGTUO_ASSIGN_OR_RETURN(range.low, Bound("minimum", "exclusiveMinimum"));
    YANGTUO_ASSIGN_OR_RETURN(range.high, Bound("maximum", "exclusiveMaximum"));
    return range;
  }

  // The narrower one of two keywords; in draft 4 the second says that the first is exclusive.
  absl::StatusOr<std::optional<NumberBound>> Bound(const char* key, const char* exclusive) const {
    std::optional<NumberBound> bound;
    if (schema_.contains(key)) {
      if (!schema_[key].is_number()) {
        return place_.Fault(absl::StrFormat("'%s' is not a number", key));
      }
      bound = NumberBound{.value = schema_[key]};
    }
    if (!schema_.contains(exclusive)) {
      return bound;
    }
    const Json& value = schema_[exclusive];
    if (value.is_boolean()) {
      if (bound.has_value()) {
        bound->is_exclusive = value.get<bool>();
      }
      return bound;
    }
    if (!value.is_number()) {
      return place_.Fault(absl::StrFormat("'%s' is not a number", exclusive));
    }
    const bool is_low = std::string_view(key) == "minimum";
    if (!bound.has_value() || (is_low ? value >= bound->value : value <= bound->value)) {
      bound = NumberBound{.value = value, .is_exclusive = true};
    }
    return bound;
  }

  // "enum" and "const": those values that the other keywords allow.
  absl::StatusOr<ExpressionId> ListedValues() {
    if (schema_.contains("enum") && (!schema_["enum"].is_array() || schema_["enum"].empty())) {
      return place_.Fault("'enum' is not an array of values");
    }
    const Json list = schema_.contains("enum") ? schema_["enum"] : Json::array({schema_["const"]});
    if (list.size() > kMostValues) {
      return place_.Fault(absl::StrFormat("'enum' has more than %d values", kMostValues));
    }
    std::vector<ExpressionId> alternatives;
    std::vector<ExpressionId> strings;
    for (const Json& value : list) {
      const std::string_view type = TypeOfValue(value);
      const bool is_of_type =
          types_.contains(std::string(type)) || (type == "integer" && types_.contains("number"));
      if (!is_of_type || (schema_.contains("const") && value != schema_["const"])) {
        continue;
      }
      YANGTUO_ASSIGN_OR_RETURN(const bool is_allowed, IsAllowed(value, type));
      if (is_allowed) {
        (value.is_string() ? strings : alternatives).push_back(Literal(value));
      }
    }
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId restricted,
                             Restricted(expressions_.Choice(std::move(strings))));
    alternatives.push_back(restricted);
    if (schema_.value("nullable", Json(false)) == Json(true) && schema_.contains("enum")) {
      alternatives.push_back(expressions_.Literal("null"));
    }
    return expressions_.Choice(std::move(alternatives));
  }

  absl::StatusOr<bool> IsAllowed(const Json& value, std::string_view type) const {
    for (const auto& [key, constraint] : schema_.items()) {
      if (value.is_structured() && TypeOfKeyword(key) == type) {
        return place_.Fault(
            absl::StrFormat("'%s' beside 'enum' or 'const' of %ss is not supported", key, type));
      }
    }
    if (value.is_string()) {
      YANGTUO_ASSIGN_OR_RETURN(const StringConstraints constraints, Strings());
      const auto text = value.get<std::string>();
      std::string_view rest = text;
      std::int32_t length = 0;
      while (TakeCodePoint(rest).has_value()) {
        ++length;
      }
      return length >= constraints.min_length && length <= constraints.max_length.value_or(length);
    }
    if (value.is_number()) {
      YANGTUO_ASSIGN_OR_RETURN(const NumberRange range, Range());
      const bool above = !range.low.has_value() || value > range.low->value ||
                         (value == range.low->value && !range.low->is_exclusive);
      const bool below = !range.high.has_value() || value < range.high->value ||
                         (value == range.high->value && !range.high->is_exclusive);
      const bool whole = TypeOfValue(value) == "integer" || !schema_.contains("multipleOf");
      return above && below && whole;
    }
    return true;
  }

  // Strings that are listed, as far as a pattern or format allows them.
  absl::StatusOr<ExpressionId> Restricted(ExpressionId strings) {
    if (strings == expressions_.Nothing() ||
        !(schema_.contains("pattern") || schema_.contains("format"))) {
      return strings;
    }
    YANGTUO_ASSIGN_OR_RETURN(StringConstraints constraints, Strings());
    constraints.min_length = 0;
    constraints.max_length.reset();
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId allowed,
                             Placed(MakeString(constraints, json_, expressions_)));
    return expressions_.Both(strings, allowed);
  }

  // `value` as JSON, with white space where printers put it. Nesting: ParseStrictJson bounds it.
  ExpressionId Literal(const Json& value) {
    if (!value.is_structured()) {
      return expressions_.Literal(value.dump());
    }
    std::vector<ExpressionId> parts;
    for (const auto& [key, member] : value.items()) {
      parts.push_back(parts.empty() ? json_.Break() : json_.Comma());
      if (value.is_object()) {
        parts.push_back(expressions_.Literal(Json(key).dump()));
        parts.push_back(json_.Colon());
      }
      parts.push_back(Literal(member));
    }
    if (!parts.empty()) {
      parts.push_back(json_.Break());
    }
    const ExpressionId members = expressions_.Sequence(std::move(parts));
    return value.is_object() ? json_.Enclosed("{", members, "}")
                             : json_.Enclosed("[", members, "]");
  }

  const Json& schema_;
  const SchemaPlace& place_;
  SchemaValues& values_;
  JsonExpressions& json_;
  Expressions& expressions_;
  std::set<std::string> types_;
};

}  // namespace

absl::StatusOr<ExpressionId> MakeKind(const Json& schema, const SchemaPlace& place,
                                      SchemaValues& values, JsonExpressions& json,
                                      Expressions& expressions) {
  return KindCompiler(schema, place, values, json, expressions).Run();
}

}  // namespace yangtuo
