#include "services/common/metrics.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/process_metrics.h"

namespace yangtuo {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::Gt;
using ::testing::Key;
using ::testing::Pair;

// Reads the text format: "name{labels} value" lines; every sample must belong to a family that was
// announced with # HELP and # TYPE.
std::map<std::string, double> ParseExposition(const std::string& text) {
  std::map<std::string, double> samples;
  std::string family;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    std::string first;
    std::string second;
    words >> first >> second;
    if (first == "#") {
      EXPECT_TRUE(second == "HELP" || second == "TYPE") << line;
      words >> family;
      continue;
    }
    const std::size_t space = line.rfind(' ');
    EXPECT_EQ(line.rfind(family, 0), 0U) << line << " is not of " << family;
    samples[line.substr(0, space)] = std::stod(line.substr(space + 1));
  }
  return samples;
}

TEST(MetricsTest, ExposesCountersGaugesAndHistogramsInPrometheusFormat) {
  Metrics metrics;
  metrics.AddCounter("yangtuo_requests_total", "Requests.", {{"code", "OK"}}).Add(2);
  metrics.AddGauge("yangtuo_running", "Running.").Set(3);
  Histogram& histogram = metrics.AddHistogram("yangtuo_wait_seconds", "Waiting.", {0.1, 1});
  histogram.Observe(0.05);
  histogram.Observe(0.5);
  histogram.Observe(5);

  const auto samples = ParseExposition(metrics.Expose());

  EXPECT_THAT(samples, Contains(Pair("yangtuo_requests_total{code=\"OK\"}", 2)));
  EXPECT_THAT(samples, Contains(Pair("yangtuo_running", 3)));
  EXPECT_THAT(samples, Contains(Pair("yangtuo_wait_seconds_bucket{le=\"0.1\"}", 1)));
  EXPECT_THAT(samples, Contains(Pair("yangtuo_wait_seconds_bucket{le=\"1\"}", 2)));
  EXPECT_THAT(samples, Contains(Pair("yangtuo_wait_seconds_bucket{le=\"+Inf\"}", 3)));
  EXPECT_THAT(samples, Contains(Pair("yangtuo_wait_seconds_count", 3)));
  EXPECT_THAT(samples, Contains(Pair("yangtuo_wait_seconds_sum", 5.55)));
}

TEST(MetricsTest, ReturnsTheSameObjectForTheSameNameAndLabels) {
  Metrics metrics;
  Counter& ok = metrics.AddCounter("c_total", "C.", {{"code", "OK"}});

  EXPECT_EQ(&metrics.AddCounter("c_total", "C.", {{"code", "OK"}}), &ok);
  EXPECT_NE(&metrics.AddCounter("c_total", "C.", {{"code", "INTERNAL"}}), &ok);
}

TEST(MetricsTest, ARemovedGaugeIsExposedNoLongerAndMayComeBack) {
  Metrics metrics;
  metrics.AddGauge("up", "Up.", {{"worker", "a"}}).Set(1);
  metrics.AddGauge("up", "Up.", {{"worker", "b"}}).Set(2);

  metrics.RemoveGauge("up", {{"worker", "a"}});
  metrics.RemoveGauge("up", {{"worker", "unknown"}});

  EXPECT_THAT(ParseExposition(metrics.Expose()), ElementsAre(Pair("up{worker=\"b\"}", 2)));
  metrics.AddGauge("up", "Up.", {{"worker", "a"}}).Set(3);
  EXPECT_THAT(ParseExposition(metrics.Expose()), Contains(Pair("up{worker=\"a\"}", 3)));
}

TEST(MetricsTest, EscapesLabelValues) {
  Metrics metrics;
  metrics.AddGauge("g", "G.", {{"model", "a\"b\\c\nd"}}).Set(1);

  EXPECT_THAT(ParseExposition(metrics.Expose()), Contains(Pair(R"(g{model="a\"b\\c\nd"})", 1)));
}

TEST(MetricsTest, RunsTheUpdatesBeforeEveryExpositionAndLetsThemAddMetrics) {
  Metrics metrics;
  int calls = 0;
  metrics.OnCollect([&metrics, &calls] { metrics.AddGauge("calls", "Calls.").Set(++calls); });

  EXPECT_THAT(ParseExposition(metrics.Expose()), Contains(Pair("calls", 1)));
  EXPECT_THAT(ParseExposition(metrics.Expose()), Contains(Pair("calls", 2)));
}

TEST(MetricsTest, LosesNothingWhenManyThreadsCountAndScrape) {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&metrics, t] {
      for (int i = 0; i < 500; ++i) {
        metrics.AddCounter("c_total", "C.", {{"code", std::to_string(i % 3)}}).Add();
      }
      if (t == 0) {
        static_cast<void>(metrics.Expose());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }

  double sum = 0;
  for (const auto& [name, value] : ParseExposition(metrics.Expose())) {
    sum += value;
  }
  EXPECT_EQ(sum, 2000);
}

TEST(MetricsTest, HasRisingBucketBounds) {
  for (const auto* buckets :
       {&TimeToFirstTokenBuckets(), &InterTokenBuckets(), &RequestSecondsBuckets()}) {
    EXPECT_EQ(std::adjacent_find(buckets->begin(), buckets->end(), std::greater_equal<>()),
              buckets->end());
  }
}

TEST(ProcessMetricsTest, ReportsTheBuildAndTheProcess) {
  Metrics metrics;
  AddProcessMetrics(metrics, "yangtuo-test");

  const std::string text = metrics.Expose();

  EXPECT_THAT(text, ::testing::HasSubstr("yangtuo_build_info{"));
  EXPECT_THAT(text, ::testing::HasSubstr("program=\"yangtuo-test\""));
  const auto samples = ParseExposition(text);
  EXPECT_THAT(samples, Contains(Pair("process_resident_memory_bytes", Gt(1e6))));
  EXPECT_THAT(samples, Contains(Pair("process_open_fds", Ge(3))));
  EXPECT_THAT(samples, Contains(Pair("process_threads", Ge(1))));
  EXPECT_THAT(samples, Contains(Key("process_cpu_seconds_total")));
}

}  // namespace
}  // namespace yangtuo
