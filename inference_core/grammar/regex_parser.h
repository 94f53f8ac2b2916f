#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "absl/status/statusor.h"
#include "inference_core/grammar/code_points.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

struct RegexOptions {
  enum class Match : std::uint8_t {
    kWhole,     // the whole text
    kAnywhere,  // some part of it, unless anchored (a JSON schema's "pattern")
  };
  Match match = Match::kWhole;
  // How one character is written in the text; empty: as itself, in UTF-8.
  std::function<ExpressionId(const CodePoints&)> write = {};
};

// A regular expression over Unicode characters, in ECMAScript's notation: literals, '.' (all but
// line ends), classes and ranges, \d \D \w \W \s \S with ECMAScript's meaning, \t \n \r \f \v \0
// \xHH \uHHHH \u{H} and escaped punctuation, groups (named ones too), alternatives, * + ? {m} {m,}
// {m,n} up to 10,000, lazy ones too (they match the same texts). ^ and $ only where the whole
// expression, or one of its outermost alternatives, begins and ends.
//
// INVALID_ARGUMENT with the byte for what is malformed and for look-around, back references, word
// boundaries, flags, \p, atomic groups and possessive repetition.
absl::StatusOr<ExpressionId> ParseRegex(std::string_view text, const RegexOptions& options,
                                        Expressions& expressions);

}  // namespace yangtuo
