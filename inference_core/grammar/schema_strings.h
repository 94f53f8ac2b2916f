#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "inference_core/grammar/expression.h"
#include "inference_core/grammar/json_expressions.h"

namespace yangtuo {

// What a JSON schema says about a string. Lengths are in characters, as in the standard.
struct StringConstraints {
  std::int32_t min_length = 0;
  std::optional<std::int32_t> max_length = {};
  std::optional<std::string> pattern = {};
  std::optional<std::string> format = {};
};

// A JSON string, quotes included. Formats: date, time, date-time, duration, uuid, ipv4, ipv6,
// hostname, email, uri; INVALID_ARGUMENT for others and for what ParseRegex refuses. With a pattern
// or a format, characters are escaped only where JSON wants it.
absl::StatusOr<ExpressionId> MakeString(const StringConstraints& constraints, JsonExpressions& json,
                                        Expressions& expressions);

}  // namespace yangtuo
