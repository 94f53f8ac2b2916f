#include "inference_core/grammar/schema_containers.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int32_t kMostCount = 100'000;
constexpr std::size_t kMostProperties = 1000;
// Items that may be repeated more often than this are called instead of written out.
constexpr std::int32_t kWrittenOut = 4;

struct Property {
  std::string name;
  ExpressionId member = 0;  // name, colon and value
  bool is_required = false;
};

// The members of an object in order, at least one, and then others.
ExpressionId Members(const std::vector<Property>& properties, ExpressionId other,
                     JsonExpressions& json, Expressions& expressions) {
  // From the last property to the first: what may come next, and what may follow a member.
  ExpressionId after = other == expressions.Nothing()
                           ? expressions.Empty()
                           : expressions.Repeat(expressions.Sequence({json.Comma(), other}), 0, -1);
  ExpressionId next = expressions.Sequence({other, after});
  bool may_end = true;
  for (std::size_t i = properties.size(); i-- > 0;) {
    const Property& property = properties[i];
    const ExpressionId here = expressions.Sequence({property.member, after});
    next = property.is_required ? here : expressions.Choice({here, next});
    may_end = may_end && !property.is_required;
    after = expressions.Sequence({json.Comma(), next});
    after = may_end ? expressions.Optional(after) : after;
  }
  return next;
}

}  // namespace

absl::StatusOr<std::optional<std::int32_t>> CountOf(const Json& schema, const char* key,
                                                    const SchemaPlace& place) {
  if (!schema.contains(key)) {
    return std::nullopt;
  }
  const Json& value = schema[key];
  const double count = value.is_number() ? value.get<double>() : -1;
  if (count < 0 || count != std::floor(count)) {
    return place.Fault(absl::StrFormat("'%s' is not a whole number from 0", key));
  }
  if (count > kMostCount && std::string_view(key).substr(0, 3) == "min") {
    return place.Fault(absl::StrFormat("'%s' above %d is not supported", key, kMostCount));
  }
  return static_cast<std::int32_t>(std::min<double>(count, kMostCount));
}

absl::StatusOr<ExpressionId> MakeArray(const Json& schema, const SchemaPlace& place,
                                       SchemaValues& values, JsonExpressions& json,
                                       Expressions& expressions) {
  YANGTUO_ASSIGN_OR_RETURN(const std::optional<std::int32_t> min_items,
                           CountOf(schema, "minItems", place));
  YANGTUO_ASSIGN_OR_RETURN(const std::optional<std::int32_t> max_items,
                           CountOf(schema, "maxItems", place));
  const std::int32_t low = min_items.value_or(0);
  const std::int32_t high = max_items.value_or(-1);
  if (high >= 0 && high < low) {
    return expressions.Nothing();
  }

  // Draft 7 says "items" and "additionalItems" where 2020-12 says "prefixItems" and "items".
  const bool is_old = schema.contains("items") && schema["items"].is_array();
  const char* const prefix_key = is_old ? "items" : "prefixItems";
  const char* const rest_key = is_old ? "additionalItems" : "items";
  std::vector<ExpressionId> prefix;
  if (schema.contains(prefix_key)) {
    if (!schema[prefix_key].is_array()) {
      return place.Fault(absl::StrFormat("'%s' is not an array of schemas", prefix_key));
    }
    for (std::size_t i = 0; i < schema[prefix_key].size(); ++i) {
      YANGTUO_ASSIGN_OR_RETURN(
          const ExpressionId item,
          values.Value(schema[prefix_key][i], place.Below(prefix_key).Below(i)));
      prefix.push_back(item);
    }
  }
  ExpressionId item = prefix.empty() ? json.AnyValue() : expressions.Nothing();
  if (schema.contains(rest_key)) {
    YANGTUO_ASSIGN_OR_RETURN(item, values.Value(schema[rest_key], place.Below(rest_key)));
  }
  if (low > kWrittenOut || high > kWrittenOut) {
    const RuleId rule = expressions.AddRule("the items at " + place.text());
    expressions.DefineRule(rule, item);
    item = expressions.Call(rule);
  }

  // What may follow after so many items, the last first.
  const auto count = static_cast<std::int32_t>(prefix.size());
  const ExpressionId next = expressions.Sequence({json.Comma(), item});
  const auto repeat = [&](std::int32_t before) {
    return expressions.Repeat(next, std::max(0, low - before),
                              high < 0 ? -1 : std::max(0, high - before));
  };
  ExpressionId items = count > 0 ? repeat(count) : expressions.Sequence({item, repeat(1)});
  for (std::int32_t i = count; i-- > 0;) {
    const ExpressionId here = prefix[static_cast<std::size_t>(i)];
    items = expressions.Sequence({i > 0 ? json.Comma() : expressions.Empty(), here, items});
    if (i > 0 && low <= i) {
      items = expressions.Optional(items);
    }
    if (high >= 0 && high <= i) {
      items = expressions.Empty();
    }
  }
  if (high == 0) {
    return expressions.Literal("[]");
  }
  // White space belongs to items: an empty array is "[]".
  const ExpressionId spaced = expressions.Sequence({json.Break(), items, json.Break()});
  if (low > 0) {
    return json.Enclosed("[", spaced, "]");
  }
  return expressions.Choice({expressions.Literal("[]"), json.Enclosed("[", spaced, "]")});
}

absl::StatusOr<ExpressionId> MakeObject(const Json& schema, const SchemaPlace& place,
                                        SchemaValues& values, JsonExpressions& json,
                                        Expressions& expressions) {
  const Json none = Json::object();
  const Json& listed = schema.contains("properties") ? schema["properties"] : none;
  const Json required = schema.value("required", Json::array());
  if (!listed.is_object()) {
    return place.Fault("'properties' is not an object");
  }
  if (!required.is_array() ||
      !std::all_of(required.begin(), required.end(), [](const Json& n) { return n.is_string(); })) {
    return place.Fault("'required' is not an array of names");
  }
  std::set<std::string> required_names;
  for (const Json& name : required) {
    required_names.insert(name.get<std::string>());
  }
  // Without "additionalProperties", an object that lists its properties has no others.
  const Json other = schema.value("additionalProperties", Json(listed.empty()));
  const SchemaPlace other_place = place.Below("additionalProperties");

  std::vector<Property> properties;
  std::set<std::string> names;
  const auto add = [&](const std::string& name, const Json& value,
                       const SchemaPlace& value_place) -> absl::Status {
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId value_expression, values.Value(value, value_place));
    const bool is_required = required_names.contains(name);
    names.insert(name);
    properties.push_back({.name = name,
                          .member = expressions.Sequence({expressions.Literal(Json(name).dump()),
                                                          json.Colon(), value_expression}),
                          .is_required = is_required});
    return absl::OkStatus();
  };
  for (const auto& [name, value] : listed.items()) {
    YANGTUO_RETURN_IF_ERROR(add(name, value, place.Below("properties").Below(name)));
  }
  // Those that must be there without being listed.
  for (const Json& name : required) {
    if (!names.contains(name.get<std::string>())) {
      const bool is_open = !schema.contains("additionalProperties");
      YANGTUO_RETURN_IF_ERROR(
          add(name.get<std::string>(), is_open ? Json(true) : other, other_place));
    }
  }
  if (properties.size() > kMostProperties) {
    return place.Fault(absl::StrFormat("more than %d properties", kMostProperties));
  }

  ExpressionId other_member = expressions.Nothing();
  if (other != Json(false)) {
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId value, values.Value(other, other_place));
    std::vector<ExpressionId> taken;
    for (const std::string& name : names) {
      taken.push_back(json.EverySpelling(name));
    }
    const ExpressionId key =
        taken.empty() ? json.AnyString()
                      : expressions.Without(json.AnyString(), expressions.Choice(std::move(taken)));
    other_member = expressions.Sequence({key, json.Colon(), value});
  }
  const ExpressionId members = expressions.Sequence(
      {json.Break(), Members(properties, other_member, json, expressions), json.Break()});
  return json.Enclosed("{", required_names.empty() ? expressions.Optional(members) : members, "}");
}

}  // namespace yangtuo
