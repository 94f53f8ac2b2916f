#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace yangtuo {

// Parses a JSON object out of untrusted text. INVALID_ARGUMENT, with the position, for what is not
// JSON, not UTF-8, not an object at the top, nested more than 32 deep or has a key twice in one
// object (readers disagree on which of the two counts, so such a file means different models to
// different programs). The message does not name the file.
absl::StatusOr<nlohmann::json> ParseStrictJson(std::string_view text);

// Whether JSON, and so messages and headers of other files, can hold `text` as it is.
[[nodiscard]] bool IsUtf8(const std::string& text);

// A value or a name for a message: JSON text, cut to a length that fits one.
[[nodiscard]] std::string Shown(const nlohmann::json& value);

}  // namespace yangtuo
