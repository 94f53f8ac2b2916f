#pragma once

#include <nlohmann/json.hpp>

namespace yangtuo {

// Whether `value` is valid under `schema`, by the words of JSON schema and nothing of the library
// that is tested: plain recursion over the keywords that the tests use. "properties" without
// "additionalProperties" takes others, as in the standard.
bool IsValid(const nlohmann::json& schema, const nlohmann::json& value, const nlohmann::json& root);

}  // namespace yangtuo
