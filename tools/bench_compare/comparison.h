#pragma once

#include <map>
#include <string>

#include "absl/status/statusor.h"

namespace yangtuo {

// What both programs print of one run: tokens a second.
struct MeasuredSpeed {
  double prefill = 0.0;
  std::map<int, double> decode;  // by sequences together
  double load_seconds = 0.0;
};

// INVALID_ARGUMENT for anything but the JSON of `bench engine` or llama_cpp.mjs.
absl::StatusOr<MeasuredSpeed> ParseSpeed(const std::string& json);

// The better of both in every number.
[[nodiscard]] MeasuredSpeed BestOf(const MeasuredSpeed& a, const MeasuredSpeed& b);

// A table of both and their ratios.
[[nodiscard]] std::string FormatComparison(const MeasuredSpeed& theirs, const MeasuredSpeed& ours);
// The same for machines.
[[nodiscard]] std::string ComparisonJson(const MeasuredSpeed& theirs, const MeasuredSpeed& ours);
// Bars of both, and of the ratios.
[[nodiscard]] std::string ComparisonSvg(const MeasuredSpeed& theirs, const MeasuredSpeed& ours);

}  // namespace yangtuo
