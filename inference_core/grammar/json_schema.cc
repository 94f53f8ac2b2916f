#include "inference_core/grammar/json_schema.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/grammar/json_expressions.h"
#include "inference_core/grammar/schema_keywords.h"
#include "inference_core/grammar/schema_kinds.h"
#include "inference_core/grammar/schema_merge.h"
#include "inference_core/grammar/schema_place.h"

namespace yangtuo {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMostBytes = 256 << 10;
constexpr std::size_t kMostMembers = 5000;     // of any one object in the schema
constexpr int kDeepest = 100;                  // schemas within schemas, references apart
constexpr std::int64_t kMostWork = 1'000'000;  // values looked at and copied

bool IsTooWide(const nlohmann::json& value) {
  return (value.is_object() && value.size() > kMostMembers) ||
         (value.is_structured() && std::any_of(value.begin(), value.end(), IsTooWide));
}

std::int64_t CountValues(const Json& value) {
  std::int64_t count = 1;
  for (const Json& member : value) {
    count += member.is_structured() ? CountValues(member) : 1;
  }
  return count;
}

class SchemaCompiler final : public SchemaValues {
 public:
  SchemaCompiler(Json root, Expressions& expressions)
      : root_(std::move(root)), expressions_(expressions), json_(expressions) {}

  absl::StatusOr<ExpressionId> Run() {
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId body, Value(root_, SchemaPlace("#")));
    // Rules are compiled one after the other, however they refer to each other.
    while (!open_.empty()) {
      const OpenRule open = std::move(open_.front());
      open_.pop_front();
      absl::StatusOr<ExpressionId> rule_body = HasParts(open.schema)
                                                   ? Joined(Json::array({open.schema}), open.place)
                                                   : Value(open.schema, open.place);
      YANGTUO_RETURN_IF_ERROR(rule_body.status());
      expressions_.DefineRule(open.rule, *rule_body);
    }
    return body;
  }

  absl::StatusOr<ExpressionId> Value(const Json& schema, const SchemaPlace& place) override {
    if (schema.is_boolean()) {
      return schema.get<bool>() ? json_.AnyValue() : expressions_.Nothing();
    }
    if (!schema.is_object()) {
      return place.Fault(absl::StrFormat("expected a schema, found %s", Shown(schema)));
    }
    if (depth_ >= kDeepest) {
      return place.Fault("alternatives are nested too deep, or in a circle");
    }
    ++depth_;
    absl::StatusOr<ExpressionId> value = ObjectSchema(schema, place);
    --depth_;
    return value;
  }

 private:
  struct OpenRule {
    RuleId rule = 0;
    Json schema;
    SchemaPlace place;
  };

  absl::StatusOr<ExpressionId> ObjectSchema(const Json& schema, const SchemaPlace& place) {
    YANGTUO_RETURN_IF_ERROR(Spend(static_cast<std::int64_t>(schema.size()) + 1, place));
    YANGTUO_RETURN_IF_ERROR(CheckKeywords(schema, place));
    if (schema.contains("$ref") && !HasParts(schema)) {
      return Reference(schema["$ref"], place);
    }
    if (HasParts(schema)) {
      if (const Json* only = OnlyPart(schema); only != nullptr) {
        return Value(*only, place.Below("allOf").Below(std::size_t{0}));
      }
      // By a rule of its own, which is found again where this schema is part of itself.
      return expressions_.Call(RuleOf("allOf " + schema.dump(), schema, place));
    }
    return Alternatives(schema, place);
  }

  absl::Status Spend(std::int64_t work, const SchemaPlace& place) {
    work_ -= work;
    return work_ >= 0 ? absl::OkStatus() : place.Fault("the schema is too large when written out");
  }

  static absl::Status CheckKeywords(const Json& schema, const SchemaPlace& place) {
    for (const auto& [key, value] : schema.items()) {
      const bool is_unique = key == "uniqueItems" && value != Json(false);
      if (IsUnsupported(key) || is_unique) {
        return place.Fault(absl::StrFormat("'%s' is not supported", key));
      }
    }
    return absl::OkStatus();
  }

  // Whether several schemas hold at once here.
  static bool HasParts(const Json& schema) {
    return schema.is_object() &&
           (schema.contains("allOf") || (schema.contains("$ref") && CountAssertions(schema) > 1));
  }

  static std::size_t CountAssertions(const Json& schema) {
    std::size_t count = 0;
    for (const auto& [key, value] : schema.items()) {
      count += IsAssertion(key) ? std::size_t{1} : 0;
    }
    return count;
  }

  // The one part of an "allOf" without anything beside it.
  static const Json* OnlyPart(const Json& schema) {
    const bool alone = CountAssertions(schema) == 1 && schema.contains("allOf") &&
                       schema["allOf"].is_array() && schema["allOf"].size() == 1;
    return alone ? &schema["allOf"][0] : nullptr;
  }

  // The rule known by `key`, made of `schema` when it is new.
  RuleId RuleOf(const std::string& key, const Json& schema, const SchemaPlace& place) {
    const auto [entry, is_new] = rules_.try_emplace(key, 0);
    if (is_new) {
      entry->second = expressions_.AddRule("the schema at " + place.text());
      open_.push_back({.rule = entry->second, .schema = schema, .place = place});
    }
    return entry->second;
  }

  absl::StatusOr<ExpressionId> Reference(const Json& reference, const SchemaPlace& place) {
    YANGTUO_ASSIGN_OR_RETURN(const Json* target, Find(reference, place));
    const auto text = reference.get<std::string>();
    return expressions_.Call(RuleOf("$ref " + text, *target, SchemaPlace(text)));
  }

  // What a "$ref" of this document points to.
  absl::StatusOr<const Json*> Find(const Json& reference, const SchemaPlace& place) {
    if (!reference.is_string()) {
      return place.Fault("'$ref' is not a string");
    }
    const auto text = reference.get<std::string>();
    const absl::StatusOr<std::vector<std::string>> path = PathOf(text);
    if (!path.ok()) {
      return place.Fault(std::string(path.status().message()));
    }
    const Json* at = &root_;
    for (const std::string& step : *path) {
      const bool is_index = at->is_array() && !step.empty() && step.size() < 6 &&
                            step.find_first_not_of("0123456789") == std::string::npos;
      if (at->is_object() && at->contains(step)) {
        at = &(*at)[step];
      } else if (is_index && std::stoul(step) < at->size()) {
        at = &(*at)[std::stoul(step)];
      } else {
        return place.Fault(absl::StrFormat("'$ref' %s leads to nothing", Shown(reference)));
      }
    }
    return at;
  }

  // `schema` without $ref beside other keywords, allOf and oneOf: what they say is merged in.
  absl::StatusOr<Json> Flat(const Json& schema, const SchemaPlace& place, int depth) {
    if (!schema.is_object()) {
      return schema;
    }
    if (depth > kDeepest) {
      return place.Fault(absl::StrFormat(
          "'allOf' and '$ref' lead on more than %d times, or in a circle", kDeepest));
    }
    YANGTUO_RETURN_IF_ERROR(Spend(CountValues(schema), place));
    YANGTUO_RETURN_IF_ERROR(CheckKeywords(schema, place));
    Json flat = schema;
    std::vector<Json> parts;
    if (schema.contains("$ref")) {
      YANGTUO_ASSIGN_OR_RETURN(const Json* target, Find(schema["$ref"], place));
      parts.push_back(*target);
      flat.erase("$ref");
    }
    if (schema.contains("allOf")) {
      if (!schema["allOf"].is_array()) {
        return place.Fault("'allOf' is not an array");
      }
      parts.insert(parts.end(), schema["allOf"].begin(), schema["allOf"].end());
      flat.erase("allOf");
    }
    if (schema.contains("oneOf")) {
      parts.push_back({{"anyOf", schema["oneOf"]}});
      flat.erase("oneOf");
    }
    for (const Json& part : parts) {
      if (!part.is_object() && !part.is_boolean()) {
        return place.Fault(absl::StrFormat("expected a schema, found %s", Shown(part)));
      }
      YANGTUO_ASSIGN_OR_RETURN(const Json flat_part, Flat(part, place, depth + 1));
      YANGTUO_RETURN_IF_ERROR(Spend(CountValues(flat) + CountValues(flat_part), place));
      absl::StatusOr<Json> merged = MergeSchemas(flat, flat_part);
      if (!merged.ok()) {
        return place.Fault(std::string(merged.status().message()));
      }
      flat = *std::move(merged);
      if (flat.is_boolean()) {
        return flat;
      }
    }
    return flat;
  }

  absl::StatusOr<ExpressionId> Alternatives(const Json& schema, const SchemaPlace& place) {
    const char* const key = schema.contains("anyOf") ? "anyOf" : "oneOf";
    if (!schema.contains(key)) {
      return MakeKind(schema, place, *this, json_, expressions_);
    }
    const Json& list = schema[key];
    if (!list.is_array() || list.empty()) {
      return place.Fault(absl::StrFormat("'%s' is not an array of schemas", key));
    }
    Json rest = schema;
    rest.erase(key);
    std::vector<ExpressionId> alternatives;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const SchemaPlace below = place.Below(key).Below(i);
      absl::StatusOr<ExpressionId> alternative = CountAssertions(rest) == 0
                                                     ? Value(list[i], below)
                                                     : Joined(Json::array({rest, list[i]}), below);
      YANGTUO_RETURN_IF_ERROR(alternative.status());
      alternatives.push_back(*alternative);
    }
    return expressions_.Choice(std::move(alternatives));
  }

  // All of `parts` at once.
  absl::StatusOr<ExpressionId> Joined(const Json& parts, const SchemaPlace& place) {
    YANGTUO_ASSIGN_OR_RETURN(const Json flat, Flat({{"allOf", parts}}, place, 0));
    return Value(flat, place);
  }

  const Json root_;
  Expressions& expressions_;
  JsonExpressions json_;
  std::map<std::string, RuleId> rules_;
  std::deque<OpenRule> open_;
  std::int64_t work_ = kMostWork;
  int depth_ = 0;  // of Value in itself
};

}  // namespace
absl::StatusOr<ExpressionId> ParseJsonSchema(std::string_view text, Expressions& expressions) {
  if (text.size() > kMostBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a JSON schema of %d bytes: at most %d are supported", text.size(), kMostBytes));
  }
  const absl::StatusOr<nlohmann::json> strict = ParseStrictJson(text);
  if (!strict.ok()) {
    return absl::InvalidArgumentError("JSON schema: " + std::string(strict.status().message()));
  }
  if (IsTooWide(*strict)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("JSON schema: an object of more than %d members", kMostMembers));
  }
  // Read again because the strict reader forgets the order.
  Json root = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return SchemaCompiler(std::move(root), expressions).Run();
}

}  // namespace yangtuo
