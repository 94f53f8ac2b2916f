#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/status/statusor.h"
#include "inference_core/grammar/expression.h"

namespace yangtuo {

// One end of a range of numbers.
struct NumberBound {
  nlohmann::ordered_json value;
  bool is_exclusive = false;
};

struct NumberRange {
  std::optional<NumberBound> low = {};
  std::optional<NumberBound> high = {};
};

// Whole numbers of at most 18 digits within the range, exactly.
ExpressionId IntegersWithin(const NumberRange& range, Expressions& expressions);

// Decimal numbers without exponent within the range: at most 18 digits before the point and 20
// after it, or, where an exclusive upper bound could be reached by rounding, 15 in all.
// INVALID_ARGUMENT for bounds that need more than 18 digits before or 20 after the point, and for
// exclusive ones of more than 15 digits.
absl::StatusOr<ExpressionId> NumbersWithin(const NumberRange& range, Expressions& expressions);

}  // namespace yangtuo
