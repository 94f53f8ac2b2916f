#include "tools/bench_compare/comparison.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "tools/common/svg_plot.h"
#include "tools/common/table.h"

namespace yangtuo {
namespace {

using nlohmann::json;

double Ratio(double ours, double theirs) { return theirs > 0.0 ? ours / theirs : 0.0; }

json ToJson(const MeasuredSpeed& speed) {
  json decode = json::object();
  for (const auto& [sequences, rate] : speed.decode) {
    decode[absl::StrFormat("%d", sequences)] = rate;
  }
  return {{"prefill", speed.prefill}, {"decode", decode}, {"load_seconds", speed.load_seconds}};
}

}  // namespace

absl::StatusOr<MeasuredSpeed> ParseSpeed(const std::string& text) {
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto bad = [&] {
    return absl::InvalidArgumentError(absl::StrFormat(
        "expected JSON with prefill, decode and load_seconds, found: %s", text.substr(0, 500)));
  };
  if (!parsed.is_object() || !parsed.contains("prefill") || !parsed.contains("decode") ||
      !parsed["prefill"].is_number() || !parsed["decode"].is_object()) {
    return bad();
  }
  MeasuredSpeed speed{.prefill = parsed["prefill"].get<double>(),
                      .decode = {},
                      .load_seconds = parsed.value("load_seconds", 0.0)};
  for (const auto& [key, value] : parsed["decode"].items()) {
    int sequences = 0;
    if (!absl::SimpleAtoi(key, &sequences) || !value.is_number()) {
      return bad();
    }
    speed.decode[sequences] = value.get<double>();
  }
  return speed;
}

MeasuredSpeed BestOf(const MeasuredSpeed& a, const MeasuredSpeed& b) {
  MeasuredSpeed best = a;
  best.prefill = std::max(a.prefill, b.prefill);
  for (const auto& [sequences, rate] : b.decode) {
    best.decode[sequences] = std::max(best.decode[sequences], rate);
  }
  best.load_seconds = std::min(a.load_seconds, b.load_seconds);
  return best;
}

std::string FormatComparison(const MeasuredSpeed& theirs, const MeasuredSpeed& ours) {
  Table table{.columns = {{"tokens a second"},
                          {"llama.cpp", Align::kRight},
                          {"yangtuo", Align::kRight},
                          {"ratio", Align::kRight}},
              .rows = {}};
  const auto add = [&](const std::string& name, double theirs_of, double ours_of) {
    table.rows.push_back({name, absl::StrFormat("%.1f", theirs_of),
                          absl::StrFormat("%.1f", ours_of),
                          absl::StrFormat("%.2f", Ratio(ours_of, theirs_of))});
  };
  add("prefill", theirs.prefill, ours.prefill);
  for (const auto& [sequences, rate] : ours.decode) {
    const auto found = theirs.decode.find(sequences);
    add(absl::StrFormat("decode of %d", sequences),
        found == theirs.decode.end() ? 0.0 : found->second, rate);
  }
  return FormatTable(table, 0);
}

std::string ComparisonSvg(const MeasuredSpeed& theirs, const MeasuredSpeed& ours) {
  Plot speeds{.title = "Tokens a second",
              .x_label = "",
              .y_label = "tokens a second",
              .x = {},
              .series = {{"llama.cpp", {}}, {"yangtuo", {}}},
              .kind = PlotKind::kBars};
  Plot ratios{.title = "Times as fast as llama.cpp",
              .x_label = "",
              .y_label = "ratio",
              .x = {},
              .series = {{"yangtuo / llama.cpp", {}}},
              .kind = PlotKind::kBars};
  const auto add = [&](const std::string& name, double theirs_of, double ours_of) {
    for (Plot* const plot : {&speeds, &ratios}) {
      plot->x.push_back(name);
    }
    speeds.series[0].values.push_back(theirs_of);
    speeds.series[1].values.push_back(ours_of);
    ratios.series[0].values.push_back(Ratio(ours_of, theirs_of));
  };
  add("prefill", theirs.prefill, ours.prefill);
  for (const auto& [sequences, rate] : ours.decode) {
    const auto found = theirs.decode.find(sequences);
    add(absl::StrFormat("decode of %d", sequences),
        found == theirs.decode.end() ? 0.0 : found->second, rate);
  }
  return DrawSvg({speeds, ratios});
}

std::string ComparisonJson(const MeasuredSpeed& theirs, const MeasuredSpeed& ours) {
  json ratios = {{"prefill", Ratio(ours.prefill, theirs.prefill)}, {"decode", json::object()}};
  for (const auto& [sequences, rate] : ours.decode) {
    const auto found = theirs.decode.find(sequences);
    if (found != theirs.decode.end()) {
      ratios["decode"][absl::StrFormat("%d", sequences)] = Ratio(rate, found->second);
    }
  }
  return json{{"llama_cpp", ToJson(theirs)}, {"yangtuo", ToJson(ours)}, {"ratio", ratios}}.dump(2) +
         "\n";
}

}  // namespace yangtuo
