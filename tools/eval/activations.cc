#include "tools/eval/activations.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

constexpr std::size_t kGroup = 32;

double LargestOf(std::span<const float> values) {
  double largest = 0.0;
  for (const float value : values) {
    largest = std::isfinite(value) ? std::max(largest, std::abs(double{value})) : largest;
  }
  return largest;
}

// Squared errors of rounding to -127..127 times one scale.
double ErrorOf(std::span<const float> values) {
  const double scale = LargestOf(values) / 127.0;
  if (scale == 0.0) {
    return 0.0;
  }
  double sum = 0.0;
  for (const float value : values) {
    if (std::isfinite(value)) {
      const double error = std::nearbyint(double{value} / scale) * scale - double{value};
      sum += error * error;
    }
  }
  return sum;
}

}  // namespace

void RoundingCensus::Observe(Product product, std::int32_t layer, ConstMatrix x) {
  Sums& sums = sums_[{product, product == Product::kLogits ? 0 : layer}];
  sums.rows += x.dim(0);
  for (std::int64_t r = 0; r < x.dim(0); ++r) {
    const std::span<const float> row = x.Row(r);
    double squares = 0.0;
    for (const float value : row) {
      squares += std::isfinite(value) ? double{value} * double{value} : 0.0;
    }
    sums.squares += squares;
    if (squares > 0.0) {
      const double mean = std::sqrt(squares / static_cast<double>(row.size()));
      sums.largest = std::max(sums.largest, LargestOf(row) / mean);
    }
    sums.row_errors += ErrorOf(row);
    for (std::size_t first = 0; first < row.size(); first += kGroup) {
      sums.group_errors += ErrorOf(row.subspan(first, std::min(kGroup, row.size() - first)));
    }
  }
}

std::map<std::pair<Product, std::int32_t>, RoundingErrors> RoundingCensus::Errors() const {
  std::map<std::pair<Product, std::int32_t>, RoundingErrors> errors;
  for (const auto& [place, sums] : sums_) {
    const double squares = sums.squares > 0.0 ? sums.squares : 1.0;
    errors[place] = {.rows = sums.rows,
                     .largest = sums.largest,
                     .by_rows = std::sqrt(sums.row_errors / squares),
                     .by_groups = std::sqrt(sums.group_errors / squares)};
  }
  return errors;
}

absl::StatusOr<ActivationReport> MeasureActivations(PerplexityOptions options,
                                                    const TextProgress& on_progress) {
  RoundingCensus census;
  options.stage.observer = &census;
  YANGTUO_ASSIGN_OR_RETURN(Perplexity perplexity, MeasurePerplexity(options, on_progress));
  return ActivationReport{.errors = census.Errors(), .perplexity = std::move(perplexity)};
}

}  // namespace yangtuo
