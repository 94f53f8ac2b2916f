#include "tools/common/svg_plot.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// The titles of all marks, as Python's strict XML parser reads them; "not well-formed" otherwise.
std::vector<std::string> MarksIn(const std::string& svg) {
  const TempDir folder;
  const std::string file = (folder.path() / "plot.svg").string();
  std::ofstream(file) << svg;
  const std::string command =
      "python3 -c 'import sys, xml.etree.ElementTree as e\n"
      "for t in e.parse(sys.argv[1]).iter(\"{http://www.w3.org/2000/svg}title\"): print(t.text)' " +
      file + " 2>/dev/null";
  FILE* pipe = popen(command.c_str(), "r");
  std::string out;
  std::array<char, 256> buffer{};
  while (fgets(buffer.data(), buffer.size(), pipe) != nullptr) {
    out += buffer.data();
  }
  if (pclose(pipe) != 0) {
    return {"not well-formed"};
  }
  std::vector<std::string> marks;
  std::istringstream lines(out);
  for (std::string line; std::getline(lines, line);) {
    marks.push_back(line);
  }
  return marks;
}

Plot Lines() {
  return {.title = "Latency",
          .x_label = "rate",
          .y_label = "ms",
          .x = {"0.5", "1", "2"},
          .series = {{"p50", {12, 345.6, 7890}}, {"p99", {20, 0, 9000}}}};
}

TEST(SvgPlotTest, HasEveryValueOfLinesInATitle) {
  EXPECT_THAT(MarksIn(DrawSvg({Lines()})),
              ElementsAre("p50, 0.5: 12", "p50, 1: 346", "p50, 2: 7890", "p99, 0.5: 20",
                          "p99, 1: 0", "p99, 2: 9000"));
}

TEST(SvgPlotTest, WritesTheValueOfALoneSeriesAboveItsBars) {
  const std::string svg = DrawSvg({{.title = "Ratio",
                                    .x_label = "measure",
                                    .y_label = "ratio",
                                    .x = {"prefill", "decode"},
                                    .series = {{"yangtuo", {2.75, 7.28}}},
                                    .kind = PlotKind::kBars}});
  EXPECT_THAT(MarksIn(svg), ElementsAre("yangtuo, prefill: 2.75", "yangtuo, decode: 7.28"));
  EXPECT_THAT(svg, HasSubstr(">2.75</text>"));
}

TEST(SvgPlotTest, DrawsARowForEveryLongName) {
  const std::string svg =
      DrawSvg({{.title = "Kernels",
                .x_label = "",
                .y_label = "of the limit",
                .x = {"int8 product, 1 rows", "attention, kv bf16, 1 row", "rope"},
                .series = {{"of the limit", {0.9, std::nan(""), 1.25}}},
                .kind = PlotKind::kRows}});
  EXPECT_THAT(MarksIn(svg),
              ElementsAre("of the limit, int8 product, 1 rows: 0.9", "of the limit, rope: 1.25"));
  EXPECT_THAT(svg, HasSubstr(">attention, kv bf16, 1 row</text>"));
  EXPECT_THAT(svg, HasSubstr(">1.25</text>"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(SvgPlotTest, EscapesWhatXmlReservesAndDropsControlCharacters) {
  Plot plot = Lines();
  plot.title = "a<b & \"c\">\x01";
  plot.x[0] = "<&>";
  const std::string svg = DrawSvg({plot});
  EXPECT_THAT(svg, HasSubstr("a&lt;b &amp; &quot;c&quot;&gt; </text>"));
  EXPECT_EQ(MarksIn(svg)[0], "p50, <&>: 12");
}

TEST(SvgPlotTest, LeavesAGapWhereThereIsNoValue) {
  Plot plot = Lines();
  plot.series = {{"p50", {1, std::numeric_limits<double>::quiet_NaN(), 3}}};
  const std::string svg = DrawSvg({plot});
  EXPECT_THAT(MarksIn(svg), ElementsAre("p50, 0.5: 1", "p50, 2: 3"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(SvgPlotTest, DrawsZerosAndNothingWithoutANumberThatIsNone) {
  Plot zeros = Lines();
  zeros.series = {{"p50", {0, 0, 0}}};
  Plot nothing;
  const std::string svg = DrawSvg({zeros, nothing, nothing});
  EXPECT_THAT(MarksIn(svg), ElementsAre("p50, 0.5: 0", "p50, 1: 0", "p50, 2: 0"));
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
  EXPECT_THAT(svg, Not(HasSubstr("inf")));
}

}  // namespace
}  // namespace yangtuo
