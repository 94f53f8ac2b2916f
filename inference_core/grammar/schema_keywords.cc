#include "inference_core/grammar/schema_keywords.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace yangtuo {
namespace {

constexpr std::string_view kAnnotations[] = {"$anchor",         "$comment",
                                             "$defs",           "$id",
                                             "$schema",         "$vocabulary",
                                             "contentEncoding", "contentMediaType",
                                             "contentSchema",   "default",
                                             "definitions",     "deprecated",
                                             "description",     "discriminator",
                                             "example",         "examples",
                                             "externalDocs",    "id",
                                             "readOnly",        "title",
                                             "writeOnly",       "xml"};

constexpr std::string_view kUnsupported[] = {"$dynamicRef",
                                             "$recursiveRef",
                                             "contains",
                                             "dependencies",
                                             "dependentRequired",
                                             "dependentSchemas",
                                             "else",
                                             "if",
                                             "maxContains",
                                             "maxProperties",
                                             "minContains",
                                             "minProperties",
                                             "not",
                                             "patternProperties",
                                             "propertyNames",
                                             "then",
                                             "unevaluatedItems",
                                             "unevaluatedProperties"};

constexpr std::pair<std::string_view, std::string_view> kTyped[] = {
    {"additionalItems", "array"},   {"additionalProperties", "object"},
    {"exclusiveMaximum", "number"}, {"exclusiveMinimum", "number"},
    {"format", "string"},           {"items", "array"},
    {"maxItems", "array"},          {"maxLength", "string"},
    {"maximum", "number"},          {"minItems", "array"},
    {"minLength", "string"},        {"minimum", "number"},
    {"multipleOf", "number"},       {"pattern", "string"},
    {"prefixItems", "array"},       {"properties", "object"},
    {"required", "object"},         {"uniqueItems", "array"}};

constexpr std::string_view kUntyped[] = {"$ref", "allOf",    "anyOf", "const",
                                         "enum", "nullable", "oneOf", "type"};

template <typename List>
bool IsIn(const List& list, std::string_view keyword) {
  return std::find(std::begin(list), std::end(list), keyword) != std::end(list);
}

}  // namespace

bool IsAnnotation(std::string_view keyword) { return IsIn(kAnnotations, keyword); }

bool IsUnsupported(std::string_view keyword) { return IsIn(kUnsupported, keyword); }

std::string_view TypeOfKeyword(std::string_view keyword) {
  for (const auto& [known, type] : kTyped) {
    if (known == keyword) {
      return type;
    }
  }
  return {};
}

bool IsAssertion(std::string_view keyword) {
  return IsIn(kUntyped, keyword) || !TypeOfKeyword(keyword).empty();
}

}  // namespace yangtuo
