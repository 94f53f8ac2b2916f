#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

// The part of TOML that configuration files use: `key = value` lines with strings, numbers,
// booleans and arrays of them, and comments. Keys are flat; tables are refused.
namespace yangtuo {

struct ConfigEntry {
  std::string key;
  // As text: a string without its quotes and escapes, anything else as written.
  std::vector<std::string> values;
  bool is_array = false;
  int line = 0;
};

// INVALID_ARGUMENT with "name:line: expected ..., found ..." for what is not in this part of TOML,
// and for a key that appears twice.
absl::StatusOr<std::vector<ConfigEntry>> ParseConfigFile(std::string_view name,
                                                         std::string_view text);

// `value` as a TOML basic string, quotes included.
std::string TomlString(std::string_view value);

// True for what TOML reads as a number or boolean when it has no quotes.
bool IsTomlLiteral(std::string_view value);

// The one of `names` that `name` was most probably meant to be; empty when none is near.
std::string NearestName(std::string_view name, const std::vector<std::string>& names);

}  // namespace yangtuo
