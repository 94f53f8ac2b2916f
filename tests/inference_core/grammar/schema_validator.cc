#include "tests/inference_core/grammar/schema_validator.h"

#include <algorithm>
#include <cmath>
#include <regex>
#include <string>

namespace yangtuo {
namespace {

using nlohmann::json;

bool HasType(const json& value, const std::string& type) {
  if (type == "integer") {
    return value.is_number() && value.get<double>() == std::floor(value.get<double>());
  }
  return (type == "null" && value.is_null()) || (type == "boolean" && value.is_boolean()) ||
         (type == "number" && value.is_number()) || (type == "string" && value.is_string()) ||
         (type == "array" && value.is_array()) || (type == "object" && value.is_object());
}

bool IsTyped(const json& schema, const json& value) {
  if (value.is_null() && schema.value("nullable", false)) {
    return true;
  }
  if (!schema.contains("type")) {
    return true;
  }
  const json types = schema["type"].is_array() ? schema["type"] : json::array({schema["type"]});
  return std::any_of(types.begin(), types.end(),
                     [&](const json& type) { return HasType(value, type.get<std::string>()); });
}

bool IsNumberValid(const json& schema, const json& value) {
  const auto number = value.get<double>();
  return !(schema.contains("minimum") && number < schema["minimum"].get<double>()) &&
         !(schema.contains("maximum") && number > schema["maximum"].get<double>()) &&
         !(schema.contains("exclusiveMinimum") &&
           number <= schema["exclusiveMinimum"].get<double>()) &&
         !(schema.contains("exclusiveMaximum") &&
           number >= schema["exclusiveMaximum"].get<double>());
}

bool IsStringValid(const json& schema, const std::string& text) {
  const auto length = static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned>(c) & 0xC0U) != 0x80U;
  }));
  if (length < schema.value("minLength", std::size_t{0}) ||
      length > schema.value("maxLength", length)) {
    return false;
  }
  return !schema.contains("pattern") ||
         std::regex_search(text, std::regex(schema["pattern"].get<std::string>()));
}

bool IsArrayValid(const json& schema, const json& value, const json& root) {
  if (value.size() < schema.value("minItems", std::size_t{0}) ||
      value.size() > schema.value("maxItems", value.size())) {
    return false;
  }
  const json prefix = schema.value("prefixItems", json::array());
  for (std::size_t i = 0; i < value.size(); ++i) {
    const json item = i < prefix.size() ? prefix[i] : schema.value("items", json(true));
    if (!IsValid(item, value[i], root)) {
      return false;
    }
  }
  return true;
}

bool IsObjectValid(const json& schema, const json& value, const json& root) {
  for (const json& name : schema.value("required", json::array())) {
    if (!value.contains(name.get<std::string>())) {
      return false;
    }
  }
  const json properties = schema.value("properties", json::object());
  for (const auto& [name, member] : value.items()) {
    const json own = properties.contains(name) ? properties[name]
                                               : schema.value("additionalProperties", json(true));
    if (!IsValid(own, member, root)) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool IsValid(const json& schema, const json& value, const json& root) {
  if (schema.is_boolean()) {
    return schema.get<bool>();
  }
  const auto valid = [&](const json& part) { return IsValid(part, value, root); };
  if (schema.contains("$ref")) {
    const auto reference = schema["$ref"].get<std::string>();
    if (!valid(root.at(json::json_pointer(reference.substr(1))))) {
      return false;
    }
  }
  for (const char* const key : {"anyOf", "oneOf"}) {
    if (schema.contains(key) && std::none_of(schema[key].begin(), schema[key].end(), valid)) {
      return false;
    }
  }
  if (schema.contains("allOf") &&
      !std::all_of(schema["allOf"].begin(), schema["allOf"].end(), valid)) {
    return false;
  }
  if (schema.contains("enum") && !(value.is_null() && schema.value("nullable", false)) &&
      std::find(schema["enum"].begin(), schema["enum"].end(), value) == schema["enum"].end()) {
    return false;
  }
  if ((schema.contains("const") && schema["const"] != value) || !IsTyped(schema, value)) {
    return false;
  }
  return (!value.is_number() || IsNumberValid(schema, value)) &&
         (!value.is_string() || IsStringValid(schema, value.get<std::string>())) &&
         (!value.is_array() || IsArrayValid(schema, value, root)) &&
         (!value.is_object() || IsObjectValid(schema, value, root));
}

}  // namespace yangtuo
