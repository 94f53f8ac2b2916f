#pragma once

// Schemas of every kind, and values that are valid under them: both made by chance.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/inference_core/grammar/random_json.h"

namespace yangtuo {

// Names are in alphabetical order, because values of nlohmann::json are written so.
inline nlohmann::json RandomSchema(Random& random, int depth) {
  using nlohmann::json;
  switch (random() % (depth > 0 ? 11 : 7)) {
    case 0:
      return {{"type", "null"}};
    case 1:
      return {{"type", "boolean"}};
    case 2: {
      const auto low = static_cast<std::int64_t>(random() % 300) - 200;
      return {{"type", "integer"}, {"minimum", low}, {"maximum", low + random() % 150}};
    }
    case 3: {
      const double low = (static_cast<double>(random() % 300) - 200) / 4;
      return {{"type", "number"}, {"minimum", low}, {"maximum", low + random() % 20}};
    }
    case 4: {
      const std::uint32_t low = random() % 4;
      return {{"type", "string"}, {"minLength", low}, {"maxLength", low + random() % 140}};
    }
    case 5: {
      json values = json::array();
      for (std::uint32_t count = 1 + random() % 3; count > 0; --count) {
        values.push_back(RandomJson(random, 1));
      }
      return {{"enum", values}};
    }
    case 6:
      return {{"type", random() % 2 == 0 ? json("string") : json({"string", "null"})}};
    case 7: {
      json schema = {{"type", "array"}, {"items", RandomSchema(random, depth - 1)}};
      const std::uint32_t low = random() % 3;
      schema["minItems"] = low;
      schema["maxItems"] = low + random() % 9;
      return schema;
    }
    case 8:
      return {{"anyOf", {RandomSchema(random, depth - 1), RandomSchema(random, depth - 1)}}};
    default: {
      json properties = json::object();
      json required = json::array();
      for (char name = 'a'; name < 'a' + static_cast<char>(random() % 5); ++name) {
        properties[std::string(1, name)] = RandomSchema(random, depth - 1);
        if (random() % 2 == 0) {
          required.push_back(std::string(1, name));
        }
      }
      json schema = {{"type", "object"}, {"properties", properties}, {"required", required}};
      schema["additionalProperties"] = false;
      if (random() % 3 == 0) {
        schema["additionalProperties"] = RandomSchema(random, depth - 1);
      }
      return schema;
    }
  }
}

// A valid value of a schema that RandomSchema makes.
inline nlohmann::json RandomInstance(const nlohmann::json& schema, Random& random) {
  using nlohmann::json;
  if (schema.contains("anyOf")) {
    return RandomInstance(schema["anyOf"][random() % 2], random);
  }
  if (schema.contains("enum")) {
    return schema["enum"][random() % schema["enum"].size()];
  }
  const json& type = schema["type"];
  if (type == "null" || (type.is_array() && random() % 2 == 0)) {
    return nullptr;
  }
  if (type == "boolean") {
    return random() % 2 == 0;
  }
  if (type == "integer") {
    const auto low = schema["minimum"].get<std::int64_t>();
    return low + random() % (schema["maximum"].get<std::int64_t>() - low + 1);
  }
  if (type == "number") {
    const auto low = schema["minimum"].get<double>();
    const double width = schema["maximum"].get<double>() - low;
    return low + width * (random() % 1001) / 1000.0;
  }
  if (type == "array") {
    json array = json::array();
    const auto low = schema["minItems"].get<std::uint32_t>();
    const auto more = random() % (schema["maxItems"].get<std::uint32_t>() - low + 1);
    for (std::uint32_t i = 0; i < low + more; ++i) {
      array.push_back(RandomInstance(schema["items"], random));
    }
    return array;
  }
  if (type == "object") {
    json object = json::object();
    for (const auto& [name, property] : schema["properties"].items()) {
      const json& required = schema["required"];
      if (random() % 2 == 0 ||
          std::find(required.begin(), required.end(), json(name)) != required.end()) {
        object[name] = RandomInstance(property, random);
      }
    }
    // After the others in the order of bytes.
    if (schema["additionalProperties"].is_object() && random() % 2 == 0) {
      std::string name(1, 'z');
      name += RandomString(random);
      object[name] = RandomInstance(schema["additionalProperties"], random);
    }
    return object;
  }
  const auto low = schema.value("minLength", std::uint32_t{0});
  const auto high = schema.value("maxLength", std::uint32_t{20});
  static const char* const kCharacters[] = {
      "a", "\"", "\\", "\n", "\x01", "人", "\xF0\x9F\xA6\x99"};
  std::string text;
  for (std::uint32_t i = 0; i < low + random() % (high - low + 1); ++i) {
    text += kCharacters[random() % std::size(kCharacters)];
  }
  return text;
}

}  // namespace yangtuo
