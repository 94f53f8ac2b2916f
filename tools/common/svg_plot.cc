#include "tools/common/svg_plot.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

constexpr double kWidth = 480;
constexpr double kHeight = 320;
constexpr double kLeft = 64;
constexpr double kRight = 16;
constexpr double kTop = 64;
constexpr double kBottom = 48;
constexpr double kInnerWidth = kWidth - kLeft - kRight;
constexpr double kInnerHeight = kHeight - kTop - kBottom;
constexpr std::size_t kColours = 6;

// Colours that stay apart for colour-blind readers too (Okabe and Ito), and on both grounds.
constexpr char kStyle[] = R"(<style>
text{font:12px system-ui,sans-serif;fill:#222}
.h{font-size:14px;font-weight:600}
.g{stroke:#ddd}.a{stroke:#888}.bg{fill:#fff}
path{fill:none;stroke-width:2}
.l0{stroke:#0072b2}.l1{stroke:#d55e00}.l2{stroke:#009e73}.l3{stroke:#cc79a7}.l4{stroke:#b58900}.l5{stroke:#777}
.f0{fill:#0072b2}.f1{fill:#d55e00}.f2{fill:#009e73}.f3{fill:#cc79a7}.f4{fill:#b58900}.f5{fill:#777}
@media (prefers-color-scheme:dark){
text{fill:#ddd}.g{stroke:#3a3a3a}.bg{fill:#181818}
.l0{stroke:#56b4e9}.l5{stroke:#aaa}.f0{fill:#56b4e9}.f5{fill:#aaa}}
</style>
)";

// XML 1.0 has no control characters but tab and line ends, not even escaped.
std::string Escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string Number(double value) {
  return value >= 1000 ? absl::StrFormat("%.0f", value) : absl::StrFormat("%.3g", value);
}

// 1, 2 or 5 times a power of ten, so that about five of them reach `largest`.
double TickStep(double largest) {
  const double rough = largest / 5;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) {
      return factor * power;
    }
  }
  return 10 * power;
}

class Drawing {
 public:
  explicit Drawing(const Plot& plot) : plot_(plot) {
    double largest = 0;
    for (const PlotSeries& series : plot.series) {
      for (const double value : series.values) {
        largest = std::isfinite(value) ? std::max(largest, value) : largest;
      }
    }
    step_ = TickStep(largest > 0 ? largest : 1);
    top_ = std::max(1.0, std::ceil(largest / step_ - 1e-9)) * step_;
  }

  std::string Draw() {
    if (plot_.kind == PlotKind::kRows) {
      Text(16, 20, "start", plot_.title, "h");
      Rows();
      return out_;
    }
    Text(kLeft, 20, "start", plot_.title, "h");
    Legend();
    Axes();
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      plot_.kind == PlotKind::kLines ? Line(i) : Bars(i);
    }
    return out_;
  }

 private:
  [[nodiscard]] double X(std::size_t place) const {
    return kLeft + kInnerWidth * (static_cast<double>(place) + 0.5) /
                       static_cast<double>(std::max<std::size_t>(plot_.x.size(), 1));
  }
  [[nodiscard]] double Y(double value) const { return kTop + kInnerHeight * (1 - value / top_); }

  void Text(double x, double y, const char* anchor, const std::string& text,
            const char* style = "") {
    out_ +=
        absl::StrFormat("<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
                        style, x, y, anchor, Escape(text));
  }

  void Legend() {
    double x = kLeft;
    for (std::size_t i = 0; i < plot_.series.size(); ++i) {
      out_ += absl::StrFormat(
          "<rect class=\"f%d\" x=\"%.1f\" y=\"32\" width=\"12\" height=\"12\" rx=\"2\"/>\n",
          i % kColours, x);
      Text(x + 17, 42, "start", plot_.series[i].name);
      x += 34 + 7 * static_cast<double>(plot_.series[i].name.size());
    }
  }

  void Axes() {
    for (int i = 0; i * step_ <= top_ * 1.0001; ++i) {
      const double y = Y(i * step_);
      out_ +=
          absl::StrFormat("<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                          i == 0 ? "a" : "g", kLeft, kWidth - kRight, y, y);
      Text(kLeft - 6, y + 4, "end", Number(i * step_));
    }
    // Names that would touch are left out, the last of all but every one of them.
    const double apart =
        kInnerWidth / static_cast<double>(std::max<std::size_t>(plot_.x.size(), 1));
    std::size_t longest = 1;
    for (const std::string& name : plot_.x) {
      longest = std::max(longest, name.size());
    }
    const auto every = static_cast<std::size_t>(
        std::max(1.0, std::ceil((7.0 * static_cast<double>(longest) + 6) / apart)));
    for (std::size_t i = 0; i < plot_.x.size(); i += every) {
      Text(X(i), kHeight - kBottom + 18, "middle", plot_.x[i]);
    }
    Text(kLeft + kInnerWidth / 2, kHeight - 10, "middle", plot_.x_label);
    out_ += absl::StrFormat(
        "<text transform=\"translate(14 %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
        kTop + kInnerHeight / 2, Escape(plot_.y_label));
  }

  [[nodiscard]] std::string Title(const PlotSeries& series, std::size_t place) const {
    return absl::StrFormat("<title>%s, %s: %s</title>", Escape(series.name), Escape(plot_.x[place]),
                           Number(series.values[place]));
  }

  void Line(std::size_t index) {
    const PlotSeries& series = plot_.series[index];
    std::string path;
    std::string marks;
    bool drawing = false;
    for (std::size_t i = 0; i < plot_.x.size() && i < series.values.size(); ++i) {
      if (!std::isfinite(series.values[i])) {
        drawing = false;
        continue;
      }
      const double y = Y(series.values[i]);
      path += absl::StrFormat("%s%.1f %.1f", drawing ? "L" : "M", X(i), y);
      drawing = true;
      marks +=
          absl::StrFormat("<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\">%s</circle>\n",
                          index % kColours, X(i), y, Title(series, i));
    }
    if (!path.empty()) {
      out_ += absl::StrFormat("<path class=\"l%d\" d=\"%s\"/>\n", index % kColours, path);
    }
    out_ += marks;
  }

  void Bars(std::size_t index) {
    const PlotSeries& series = plot_.series[index];
    const double group = 0.75 * kInnerWidth / static_cast<double>(plot_.x.size());
    const double width = std::min(60.0, group / static_cast<double>(plot_.series.size()));
    const double shift =
        width * (static_cast<double>(index) - static_cast<double>(plot_.series.size()) / 2);
    for (std::size_t i = 0; i < plot_.x.size() && i < series.values.size(); ++i) {
      if (!std::isfinite(series.values[i])) {
        continue;
      }
      const double y = Y(series.values[i]);
      out_ += absl::StrFormat(
          "<rect class=\"f%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">%s</rect>\n",
          index % kColours, X(i) + shift, y, std::max(1.0, width - 2), kTop + kInnerHeight - y,
          Title(series, i));
      if (plot_.series.size() == 1) {
        Text(X(i) + shift + width / 2 - 1, y - 4, "middle", Number(series.values[i]));
      }
    }
  }

  void Rows() {
    constexpr double kNames = 250;
    constexpr double kFirst = 36;
    constexpr double kValues = 36;  // room for a value behind the longest bar
    const double height = (kHeight - kBottom - kFirst) /
                          static_cast<double>(std::max<std::size_t>(plot_.x.size(), 1));
    const double width = kWidth - kNames - kRight - kValues;
    for (int i = 0; i * step_ <= top_ * 1.0001; ++i) {
      const double x = kNames + width * i * step_ / top_;
      out_ +=
          absl::StrFormat("<line class=\"%s\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n",
                          i == 0 ? "a" : "g", x, x, kFirst, kHeight - kBottom);
      Text(x, kHeight - kBottom + 18, "middle", Number(i * step_));
    }
    Text(kNames + width / 2, kHeight - 10, "middle", plot_.y_label);
    if (plot_.series.empty()) {
      return;
    }
    const PlotSeries& series = plot_.series.front();
    for (std::size_t i = 0; i < plot_.x.size() && i < series.values.size(); ++i) {
      const double y = kFirst + height * static_cast<double>(i);
      Text(kNames - 6, y + height / 2 + 4, "end", plot_.x[i]);
      if (!std::isfinite(series.values[i])) {
        continue;
      }
      const double length = width * series.values[i] / top_;
      out_ += absl::StrFormat(
          "<rect class=\"f0\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\">%s</rect>\n",
          kNames, y + height / 8, length, height * 3 / 4, Title(series, i));
      Text(kNames + length + 4, y + height / 2 + 4, "start", Number(series.values[i]));
    }
  }

  const Plot& plot_;
  double step_ = 1;
  double top_ = 1;
  std::string out_;
};

}  // namespace

std::string DrawSvg(const std::vector<Plot>& plots) {
  const std::size_t columns = std::clamp<std::size_t>(plots.size(), 1, 2);
  const std::size_t rows = std::max<std::size_t>(1, (plots.size() + columns - 1) / columns);
  const double width = kWidth * static_cast<double>(columns);
  const double height = kHeight * static_cast<double>(rows);
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f "
      "%.0f\">\n",
      width, height, width, height);
  svg += kStyle;
  svg += "<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n";
  for (std::size_t i = 0; i < plots.size(); ++i) {
    svg += absl::StrFormat("<g transform=\"translate(%.0f %.0f)\">\n",
                           kWidth * static_cast<double>(i % columns),
                           kHeight * static_cast<double>(i / columns));
    svg += Drawing(plots[i]).Draw();
    svg += "</g>\n";
  }
  return svg + "</svg>\n";
}

}  // namespace yangtuo
