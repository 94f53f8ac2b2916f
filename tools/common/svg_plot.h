#pragma once

#include <string>
#include <vector>

namespace yangtuo {

// One line, or one bar of each group.
struct PlotSeries {
  std::string name;
  std::vector<double> values;  // one for each of Plot::x; NaN: nothing there
};

// kRows: a bar for every place, one below the other, with its name before it and its value behind
// it; for one series, up to twenty places and long names.
enum class PlotKind { kLines, kBars, kRows };

// Values over a few named places, evenly apart, from zero upwards. Values are not negative.
struct Plot {
  std::string title;
  std::string x_label;
  std::string y_label;         // with its unit: "ms"
  std::vector<std::string> x;  // "0.5", "1", "2"
  std::vector<PlotSeries> series;
  PlotKind kind = PlotKind::kLines;
};

// One SVG file with all plots, two beside each other. Light or dark as its reader prefers; needs no
// font or other resource. Every value is in the title of its mark, and above it where there is one
// series of bars. Texts are UTF-8.
std::string DrawSvg(const std::vector<Plot>& plots);

}  // namespace yangtuo
