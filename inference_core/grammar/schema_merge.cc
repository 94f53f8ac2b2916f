#include "inference_core/grammar/schema_merge.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/schema_keywords.h"

namespace yangtuo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostAlternatives = 256;
constexpr std::size_t kMostComparisons = 1'000'000;  // of values in lists

Json BothOf(const Json& a, const Json& b) {
  if (a == b || b == Json(true)) {
    return a;
  }
  if (a == Json(true)) {
    return b;
  }
  if (a == Json(false) || b == Json(false)) {
    return false;
  }
  // A list is made longer, not nested: many may come together here.
  Json all = a.is_object() && a.size() == 1 && a.contains("allOf") && a["allOf"].is_array()
                 ? a
                 : Json({{"allOf", Json::array({a})}});
  all["allOf"].push_back(b);
  return all;
}

Json AsList(const Json& types) { return types.is_array() ? types : Json::array({types}); }

bool HasValue(const Json& list, const Json& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool SaysItems(const Json& schema) {
  return schema.contains("items") || schema.contains("prefixItems");
}

bool HasItemsByPlace(const Json& schema) {
  return schema.contains("prefixItems") || (schema.contains("items") && schema["items"].is_array());
}

// Whether null may be valid, as far as the keywords that list types and values say.
bool AllowsNull(const Json& schema) {
  if (schema.value("nullable", Json(false)) == Json(true)) {
    return true;
  }
  return (!schema.contains("type") || HasValue(AsList(schema["type"]), Json("null"))) &&
         (!schema.contains("enum") || HasValue(schema["enum"], Json())) &&
         (!schema.contains("const") || schema["const"].is_null());
}

Json CommonTypes(const Json& a, const Json& b) {
  Json common = Json::array();
  for (const auto& [mine, theirs] :
       {std::pair(AsList(a), AsList(b)), std::pair(AsList(b), AsList(a))}) {
    for (const Json& type : mine) {
      // A whole number is a number.
      const bool fits = HasValue(theirs, type) || (type == "integer" && HasValue(theirs, "number"));
      if (fits && !HasValue(common, type)) {
        common.push_back(type);
      }
    }
  }
  return common;
}

absl::StatusOr<Json> CommonValues(const Json& a, const Json& b) {
  if (a.size() * b.size() > kMostComparisons) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "'enum's of %d and %d values in 'allOf' are too large", a.size(), b.size()));
  }
  Json common = Json::array();
  for (const Json& value : a) {
    if (HasValue(b, value)) {
      common.push_back(value);
    }
  }
  return common;
}

std::map<std::string, const Json*> ByName(const Json& object) {
  std::map<std::string, const Json*> by_name;
  for (const auto& [name, value] : object.items()) {
    by_name.emplace(name, &value);
  }
  return by_name;
}

// Properties of both; what one does not list is bound by its "additionalProperties".
void MergeProperties(const Json& a, const Json& b, Json& merged) {
  const Json none = Json::object();
  const Json& mine = a.contains("properties") ? a["properties"] : none;
  const Json& theirs = b.contains("properties") ? b["properties"] : none;
  // Objects that keep their order are searched from the front.
  const std::map<std::string, const Json*> mine_by_name = ByName(mine);
  const std::map<std::string, const Json*> theirs_by_name = ByName(theirs);
  const Json other_mine = a.value("additionalProperties", Json(true));
  const Json other_theirs = b.value("additionalProperties", Json(true));
  Json properties = Json::object();
  for (const auto& [name, schema] : mine.items()) {
    const auto same = theirs_by_name.find(name);
    properties.push_back(
        {name, BothOf(schema, same != theirs_by_name.end() ? *same->second : other_theirs)});
  }
  for (const auto& [name, schema] : theirs.items()) {
    if (!mine_by_name.contains(name)) {
      properties.push_back({name, BothOf(other_mine, schema)});
    }
  }
  if (!properties.empty()) {
    merged["properties"] = std::move(properties);
  }
  if (a.contains("additionalProperties") || b.contains("additionalProperties")) {
    merged["additionalProperties"] = BothOf(other_mine, other_theirs);
  }
}

absl::StatusOr<Json> MergeValues(const std::string& key, const Json& a, const Json& b) {
  if (a == b) {
    return a;
  }
  if (key == "type") {
    return CommonTypes(a, b);
  }
  if (key == "enum" && a.is_array() && b.is_array()) {
    return CommonValues(a, b);
  }
  if (key == "required" && a.is_array() && b.is_array()) {
    Json all = a;
    std::set<Json> known(a.begin(), a.end());
    for (const Json& name : b) {
      if (known.insert(name).second) {
        all.push_back(name);
      }
    }
    return all;
  }
  if (key == "items") {
    return BothOf(a, b);
  }
  if (key == "anyOf" && a.is_array() && b.is_array()) {
    if (a.size() * b.size() > kMostAlternatives) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "'anyOf' multiplied by 'allOf' has more than %d alternatives", kMostAlternatives));
    }
    Json product = Json::array();
    for (const Json& mine : a) {
      for (const Json& theirs : b) {
        product.push_back(BothOf(mine, theirs));
      }
    }
    return product;
  }
  if (a.is_number() && b.is_number()) {
    if (key.starts_with("min") || key == "exclusiveMinimum") {
      return std::max(a, b);
    }
    if (key.starts_with("max") || key == "exclusiveMaximum") {
      return std::min(a, b);
    }
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("two different '%s' cannot be joined by 'allOf'", key));
}

}  // namespace

absl::StatusOr<Json> MergeSchemas(const Json& a, const Json& b) {
  if (a.is_boolean() || b.is_boolean()) {
    return BothOf(a, b);
  }
  if (a.contains("const") && b.contains("const") && a["const"] != b["const"]) {
    return Json(false);
  }
  if (SaysItems(a) && SaysItems(b) && HasItemsByPlace(a) != HasItemsByPlace(b)) {
    return absl::InvalidArgumentError(
        "'prefixItems' of one and 'items' of another part of 'allOf' cannot be joined");
  }
  Json merged = a;
  for (const auto& [key, value] : b.items()) {
    if (key == "properties" || key == "additionalProperties" || key == "nullable" ||
        IsAnnotation(key)) {
      continue;
    }
    if (!merged.contains(key)) {
      merged[key] = value;
      continue;
    }
    YANGTUO_ASSIGN_OR_RETURN(merged[key], MergeValues(key, a[key], value));
  }
  if (a.contains("nullable") || b.contains("nullable")) {
    merged["nullable"] = AllowsNull(a) && AllowsNull(b);
  }
  MergeProperties(a, b, merged);
  return merged;
}

}  // namespace yangtuo
