#include "tools/common/prometheus_text.h"

#include <cstddef>
#include <cstdlib>
#include <utility>

namespace yangtuo {
namespace {

std::string_view Trim(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) {
    return {};
  }
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// The value between quotes; `text` starts behind the opening quote and is left behind the closing
// one. Empty when it does not end.
std::optional<std::string> TakeQuoted(std::string_view& text) {
  std::string value;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') {
      text.remove_prefix(i + 1);
      return value;
    }
    if (text[i] == '\\' && i + 1 < text.size()) {
      ++i;
      value += text[i] == 'n' ? '\n' : text[i];
    } else {
      value += text[i];
    }
  }
  return std::nullopt;
}

// `text` starts behind the opening brace and is left behind the closing one.
bool TakeLabels(std::string_view& text, std::map<std::string, std::string>& labels) {
  while (!text.empty() && text.front() != '}') {
    const std::size_t equals = text.find("=\"");
    if (equals == std::string_view::npos) {
      return false;
    }
    const std::string key(Trim(text.substr(0, equals)));
    text.remove_prefix(equals + 2);
    auto value = TakeQuoted(text);
    if (!value) {
      return false;
    }
    labels.emplace(key, *std::move(value));
    if (!text.empty() && text.front() == ',') {
      text.remove_prefix(1);
    }
  }
  if (text.empty()) {
    return false;
  }
  text.remove_prefix(1);
  return true;
}

std::optional<MetricSample> ParseLine(std::string_view line) {
  line = Trim(line);
  if (line.empty() || line.front() == '#') {
    return std::nullopt;
  }
  const std::size_t name_end = line.find_first_of("{ \t");
  if (name_end == std::string_view::npos) {
    return std::nullopt;
  }
  MetricSample sample{.name = std::string(line.substr(0, name_end)), .labels = {}, .value = 0};
  const bool labelled = line[name_end] == '{';
  line.remove_prefix(name_end + 1);
  if (labelled && !TakeLabels(line, sample.labels)) {
    return std::nullopt;
  }
  const std::string number(Trim(line));
  char* end = nullptr;
  sample.value = std::strtod(number.c_str(), &end);
  if (end == number.c_str()) {
    return std::nullopt;
  }
  return sample;
}

}  // namespace

std::vector<MetricSample> ParsePrometheusText(std::string_view text) {
  std::vector<MetricSample> samples;
  while (!text.empty()) {
    const std::size_t line_end = text.find('\n');
    if (auto sample = ParseLine(text.substr(0, line_end))) {
      samples.push_back(*std::move(sample));
    }
    text.remove_prefix(line_end == std::string_view::npos ? text.size() : line_end + 1);
  }
  return samples;
}

std::optional<double> SumOf(const std::vector<MetricSample>& samples, std::string_view name) {
  std::optional<double> sum;
  for (const MetricSample& sample : samples) {
    if (sample.name == name) {
      sum = sum.value_or(0) + sample.value;
    }
  }
  return sum;
}

}  // namespace yangtuo
