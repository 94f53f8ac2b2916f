#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace yangtuo {

// One line of a Prometheus exposition.
struct MetricSample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};

// Reads the Prometheus text format; lines that are not samples are passed over.
std::vector<MetricSample> ParsePrometheusText(std::string_view text);

// Sum over all samples with the name; empty when there is none.
std::optional<double> SumOf(const std::vector<MetricSample>& samples, std::string_view name);

}  // namespace yangtuo
