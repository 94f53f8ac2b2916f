#include "inference_core/grammar/json_numbers.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

constexpr std::int64_t kLargest = 999'999'999'999'999'999;  // 18 digits
constexpr std::int32_t kMostFraction = 20;
// Decimal numbers of so many digits are different doubles.
constexpr std::int32_t kExactDigits = 15;

// Whole numbers low..high without sign, 0 <= low.
ExpressionId Naturals(std::int64_t low, std::int64_t high, Expressions& expressions) {
  std::vector<ExpressionId> parts;
  for (std::int64_t first = 0, last = 9; first <= high;) {
    const std::int64_t from = std::max(low, first);
    const std::int64_t to = std::min(high, last);
    if (from <= to) {
      parts.push_back(
          expressions.Between(std::to_string(from), std::to_string(to), {.low = '0', .high = '9'}));
    }
    first = last + 1;
    last = last < kLargest ? last * 10 + 9 : high;
  }
  return expressions.Choice(std::move(parts));
}

// The whole number nearest to the bound that the bound allows, within +-kLargest.
std::int64_t LowInteger(const NumberBound& bound) {
  if (bound.value.is_number_unsigned()) {
    const auto value = bound.value.get<std::uint64_t>();
    return value > static_cast<std::uint64_t>(kLargest)
               ? kLargest + 1
               : static_cast<std::int64_t>(value) + (bound.is_exclusive ? 1 : 0);
  }
  if (bound.value.is_number_integer()) {
    const auto value = std::max(bound.value.get<std::int64_t>(), -kLargest - 1);
    return std::max(value + (bound.is_exclusive ? 1 : 0), -kLargest);
  }
  const double value = bound.value.get<double>();
  const double up = std::ceil(value) + (bound.is_exclusive && value == std::ceil(value) ? 1 : 0);
  return up > static_cast<double>(kLargest)
             ? kLargest + 1
             : static_cast<std::int64_t>(std::max(up, -static_cast<double>(kLargest)));
}

NumberBound Negated(const NumberBound& bound) {
  NumberBound negated{.value = nullptr, .is_exclusive = bound.is_exclusive};
  if (bound.value.is_number_float()) {
    negated.value = -bound.value.get<double>();
  } else if (bound.value.is_number_unsigned() &&
             bound.value.get<std::uint64_t>() > static_cast<std::uint64_t>(kLargest) + 1) {
    negated.value = -kLargest - 1;  // beyond what is supported, either way
  } else {
    const auto value = std::max(bound.value.get<std::int64_t>(), -kLargest - 1);
    negated.value = -value;
    if (value <= 0) {
      negated.value = static_cast<std::uint64_t>(-value);
    }
  }
  return negated;
}

// A decimal number without sign: digits before the point, and after it without trailing zeros.
struct Decimal {
  std::string whole = "0";
  std::string fraction = {};
  bool is_negative = false;

  [[nodiscard]] bool IsZero() const { return whole == "0" && fraction.empty(); }
  [[nodiscard]] std::int64_t Whole() const { return std::stoll(whole); }
};

absl::StatusOr<Decimal> ToDecimal(const NumberBound& bound) {
  const std::string text = bound.value.dump();
  Decimal decimal{.is_negative = text[0] == '-'};
  std::string digits;
  std::int64_t point = -1;  // digits before it
  std::int64_t exponent = 0;
  for (std::size_t i = decimal.is_negative ? 1 : 0; i < text.size(); ++i) {
    if (text[i] == '.') {
      point = static_cast<std::int64_t>(digits.size());
    } else if (text[i] == 'e' || text[i] == 'E') {
      exponent = std::stoll(text.substr(i + 1));
      break;
    } else {
      digits += text[i];
    }
  }
  point = (point < 0 ? static_cast<std::int64_t>(digits.size()) : point) + exponent;
  if (point > 400 || point < -400) {
    point = point > 0 ? 400 : -400;
  }
  if (point < 0) {
    digits.insert(0, static_cast<std::size_t>(-point), '0');
    point = 0;
  }
  if (digits.size() < static_cast<std::size_t>(point)) {
    digits.resize(static_cast<std::size_t>(point), '0');
  }
  decimal.whole = digits.substr(0, static_cast<std::size_t>(point));
  decimal.fraction = digits.substr(static_cast<std::size_t>(point));
  decimal.whole.erase(0, decimal.whole.find_first_not_of('0'));
  if (decimal.whole.empty()) {
    decimal.whole += '0';
  }
  decimal.fraction.erase(decimal.fraction.find_last_not_of('0') + 1);
  decimal.is_negative = decimal.is_negative && !decimal.IsZero();
  const std::size_t total = decimal.whole.size() + decimal.fraction.size();
  if (decimal.whole.size() > 18 || decimal.fraction.size() > kMostFraction ||
      (bound.is_exclusive && !decimal.IsZero() && total > kExactDigits)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a bound of %s is not supported for numbers: at most 18 digits before and "
                        "%d after the point, %d in all where it is exclusive",
                        text, kMostFraction, kExactDigits));
  }
  return decimal;
}

// Numbers without sign, at or beyond a decimal bound.
class DecimalComparison {
 public:
  DecimalComparison(const Decimal& bound, bool is_exclusive, Expressions& expressions)
      : bound_(bound), is_exclusive_(is_exclusive), expressions_(expressions) {}

  ExpressionId AtLeast() {
    const ExpressionId larger = expressions_.Sequence(
        {Naturals(bound_.Whole() + 1, kLargest, expressions_), OptionalFraction(kMostFraction)});
    const ExpressionId same = expressions_.Literal(bound_.whole);
    ExpressionId fraction = expressions_.Nothing();
    if (bound_.fraction.empty()) {
      fraction = is_exclusive_ ? expressions_.Sequence({expressions_.Literal("."), Positive()})
                               : OptionalFraction(kMostFraction);
    } else {
      fraction = expressions_.Sequence({expressions_.Literal("."), FractionAtLeast(0)});
    }
    return expressions_.Choice({larger, expressions_.Sequence({same, fraction})});
  }

  ExpressionId AtMost() {
    // Many nines would round up to an exclusive bound.
    const auto whole_digits = static_cast<std::int32_t>(bound_.whole.size());
    most_fraction_ = is_exclusive_ ? std::max(0, kExactDigits - whole_digits) : kMostFraction;
    const ExpressionId smaller = expressions_.Sequence(
        {Naturals(0, bound_.Whole() - 1, expressions_), OptionalFraction(most_fraction_)});
    ExpressionId fraction = expressions_.Nothing();
    if (!bound_.fraction.empty()) {
      fraction = expressions_.Optional(
          expressions_.Sequence({expressions_.Literal("."), FractionAtMost(0)}));
    } else if (!is_exclusive_) {
      fraction = expressions_.Optional(
          expressions_.Sequence({expressions_.Literal("."), Zeros(1, kMostFraction)}));
    }
    return expressions_.Choice(
        {smaller, expressions_.Sequence({expressions_.Literal(bound_.whole), fraction})});
  }

 private:
  ExpressionId Digit(char low, char high) {
    return expressions_.Bytes(static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high));
  }
  ExpressionId Digits(std::int32_t low, std::int32_t high) {
    return expressions_.Repeat(Digit('0', '9'), low, std::max(low, high));
  }
  ExpressionId Zeros(std::int32_t low, std::int32_t high) {
    return expressions_.Repeat(Digit('0', '0'), low, std::max(low, high));
  }
  ExpressionId OptionalFraction(std::int32_t most) {
    return most == 0 ? expressions_.Empty()
                     : expressions_.Optional(
                           expressions_.Sequence({expressions_.Literal("."), Digits(1, most)}));
  }
  // More digits, not all of them zero, the first other one near enough to count in a double.
  ExpressionId Positive() {
    const auto used = static_cast<std::int32_t>(bound_.whole.size() + bound_.fraction.size());
    const std::int32_t zeros = bound_.IsZero() ? kMostFraction : kExactDigits - used - 1;
    return zeros < 0 ? expressions_.Nothing()
                     : expressions_.Sequence(
                           {Zeros(0, zeros), Digit('1', '9'), Digits(0, kMostFraction)});
  }

  // Digits from `at` on, those before being the bound's.
  ExpressionId FractionAtLeast(std::size_t at) {
    const char digit = bound_.fraction[at];
    std::vector<ExpressionId> parts;
    if (digit < '9') {
      parts.push_back(expressions_.Sequence(
          {Digit(static_cast<char>(digit + 1), '9'), Digits(0, kMostFraction)}));
    }
    const bool is_last = at + 1 == bound_.fraction.size();
    const ExpressionId rest = !is_last        ? FractionAtLeast(at + 1)
                              : is_exclusive_ ? Positive()
                                              : Digits(0, kMostFraction);
    parts.push_back(expressions_.Sequence({Digit(digit, digit), rest}));
    return expressions_.Choice(std::move(parts));
  }

  ExpressionId FractionAtMost(std::size_t at) {
    const char digit = bound_.fraction[at];
    std::vector<ExpressionId> parts;
    const std::int32_t left = most_fraction_ - static_cast<std::int32_t>(at) - 1;
    if (digit > '0') {
      parts.push_back(expressions_.Sequence(
          {Digit('0', static_cast<char>(digit - 1)), Digits(0, std::max(0, left))}));
    }
    const bool is_last = at + 1 == bound_.fraction.size();
    // What ends before the bound does is smaller: its last digit is not a zero.
    const ExpressionId rest = !is_last        ? expressions_.Optional(FractionAtMost(at + 1))
                              : is_exclusive_ ? expressions_.Nothing()
                                              : Zeros(0, kMostFraction);
    parts.push_back(expressions_.Sequence({Digit(digit, digit), rest}));
    return expressions_.Choice(std::move(parts));
  }

  const Decimal& bound_;
  bool is_exclusive_;
  Expressions& expressions_;
  std::int32_t most_fraction_ = kMostFraction;
};

struct DecimalBound {
  Decimal value = {};
  bool is_exclusive = false;
};

// Numbers without sign between two bounds that are not negative.
ExpressionId Magnitudes(const DecimalBound& low, const std::optional<DecimalBound>& high,
                        Expressions& expressions) {
  const ExpressionId at_least =
      DecimalComparison(low.value, low.is_exclusive, expressions).AtLeast();
  if (!high.has_value()) {
    return at_least;
  }
  return expressions.Both(at_least,
                          DecimalComparison(high->value, high->is_exclusive, expressions).AtMost());
}

}  // namespace

ExpressionId IntegersWithin(const NumberRange& range, Expressions& expressions) {
  const std::int64_t low = range.low.has_value() ? LowInteger(*range.low) : -kLargest;
  const std::int64_t high = range.high.has_value() ? -LowInteger(Negated(*range.high)) : kLargest;
  std::vector<ExpressionId> parts;
  if (low <= high && high >= 0) {
    parts.push_back(
        Naturals(std::max<std::int64_t>(low, 0), std::min(high, kLargest), expressions));
  }
  if (low <= high && low < 0) {
    parts.push_back(expressions.Sequence(
        {expressions.Literal("-"),
         Naturals(std::max<std::int64_t>(1, -high), std::min(-low, kLargest), expressions)}));
  }
  return expressions.Choice(std::move(parts));
}

absl::StatusOr<ExpressionId> NumbersWithin(const NumberRange& range, Expressions& expressions) {
  std::optional<DecimalBound> low;
  std::optional<DecimalBound> high;
  if (range.low.has_value()) {
    YANGTUO_ASSIGN_OR_RETURN(Decimal value, ToDecimal(*range.low));
    low = {.value = std::move(value), .is_exclusive = range.low->is_exclusive};
  }
  if (range.high.has_value()) {
    YANGTUO_ASSIGN_OR_RETURN(Decimal value, ToDecimal(*range.high));
    high = {.value = std::move(value), .is_exclusive = range.high->is_exclusive};
  }
  const bool low_is_negative = !low.has_value() || low->value.is_negative;
  const bool high_is_negative = high.has_value() && high->value.is_negative;
  std::vector<ExpressionId> parts;
  if (!high_is_negative) {
    parts.push_back(Magnitudes(low_is_negative ? DecimalBound{} : *low, high, expressions));
  }
  // "-0" is 0: it belongs to the range if 0 does, on whichever side the bounds are.
  const bool zero_is_lowest = low.has_value() && low->value.IsZero() && !low->is_exclusive;
  if (low_is_negative || zero_is_lowest) {
    const bool high_is_below = high.has_value() && (high_is_negative || high->value.IsZero());
    std::optional<DecimalBound> most;
    if (low.has_value()) {
      most = low;
    }
    parts.push_back(expressions.Sequence(
        {expressions.Literal("-"),
         Magnitudes(high_is_below ? *high : DecimalBound{}, most, expressions)}));
  }
  return expressions.Choice(std::move(parts));
}

}  // namespace yangtuo
