#include "services/common/span_exporter.h"

#include <chrono>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/services/common/fake_collector.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr Duration kPatience = std::chrono::seconds(20);

template <typename Condition>
bool WaitFor(const Condition& condition) {
  const TimePoint end = std::chrono::steady_clock::now() + kPatience;
  while (!condition() && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  return condition();
}

std::size_t SpansIn(const std::string& body) {
  const auto json = nlohmann::json::parse(body);
  return json["resourceSpans"][0]["scopeSpans"][0]["spans"].size();
}

SpanData ASpan() {
  SpanData span;
  span.context = {.trace_id = NewTraceId(), .span_id = NewSpanId(), .sampled = true};
  span.name = "work";
  return span;
}

std::unique_ptr<OtlpClient> ClientOf(const std::string& url, const std::string& ca_file = "") {
  const auto endpoint = ParseOtlpEndpoint(url);
  EXPECT_TRUE(endpoint.ok()) << endpoint.status();
  auto client = OtlpClient::Create(*endpoint, ca_file);
  EXPECT_TRUE(client.ok()) << client.status();
  return *std::move(client);
}

class SpanExporterTest : public ::testing::Test {
 protected:
  SpanExporterTest() {
    options_.period = milliseconds(20);
    options_.retry_pause = milliseconds(5);
  }

  void Start(const std::string& url) {
    exporter_ = std::make_unique<SpanExporter>(options_, ClientOf(url), metrics_);
  }
  bool Exposes(const std::string& line) {
    return absl::StrCat("\n", metrics_.Expose()).find(absl::StrCat("\n", line, "\n")) !=
           std::string::npos;
  }

  Metrics metrics_;
  SpanExporter::Options options_;
  std::unique_ptr<SpanExporter> exporter_;
};

TEST_F(SpanExporterTest, SendsASpanToTheCollectorsTracesPath) {
  FakeCollector collector;
  options_.resource = {{"service.name", std::string("yangtuo-worker")}};
  Start(collector.url());
  exporter_->Add(ASpan());
  ASSERT_TRUE(WaitFor([&] { return Exposes("yangtuo_spans_exported_total 1"); }));
  EXPECT_EQ(collector.head(), "POST /v1/traces application/json");
  ASSERT_THAT(collector.bodies(), SizeIs(1));
  EXPECT_THAT(collector.bodies()[0], HasSubstr("yangtuo-worker"));
  EXPECT_EQ(SpansIn(collector.bodies()[0]), 1U);
}

TEST_F(SpanExporterTest, SendsWhatWaitsBeforeItEnds) {
  FakeCollector collector;
  options_.period = std::chrono::hours(1);
  options_.max_batch = 3;
  Start(collector.url());
  for (int i = 0; i < 8; ++i) {
    exporter_->Add(ASpan());
  }
  exporter_.reset();
  EXPECT_TRUE(Exposes("yangtuo_spans_exported_total 8")) << metrics_.Expose();
  std::size_t spans = 0;
  for (const std::string& body : collector.bodies()) {
    EXPECT_LE(SpansIn(body), 3U);
    spans += SpansIn(body);
  }
  EXPECT_EQ(spans, 8U);
}

TEST_F(SpanExporterTest, TriesAgainWhenTheCollectorIsBusy) {
  FakeCollector collector;
  collector.Plan({{.status = 503}, {.status = 429}, {.status = 200}});
  Start(collector.url());
  exporter_->Add(ASpan());
  ASSERT_TRUE(WaitFor([&] { return Exposes("yangtuo_spans_exported_total 1"); }));
  EXPECT_THAT(collector.bodies(), SizeIs(3));
}

TEST_F(SpanExporterTest, DropsWhatTheCollectorWillNeverTake) {
  FakeCollector collector;
  collector.Plan({{.status = 400}});
  Start(collector.url());
  exporter_->Add(ASpan());
  ASSERT_TRUE(
      WaitFor([&] { return Exposes("yangtuo_spans_dropped_total{reason=\"export_failed\"} 1"); }));
  EXPECT_THAT(collector.bodies(), SizeIs(1));
}

TEST_F(SpanExporterTest, CountsWhatTheCollectorSaysItThrewAway) {
  FakeCollector collector;
  collector.Plan({{.status = 200, .body = R"({"partialSuccess":{"rejectedSpans":"1"}})"}});
  options_.period = milliseconds(200);
  Start(collector.url());
  exporter_->Add(ASpan());
  exporter_->Add(ASpan());
  ASSERT_TRUE(
      WaitFor([&] { return Exposes("yangtuo_spans_dropped_total{reason=\"rejected\"} 1"); }));
  EXPECT_TRUE(Exposes("yangtuo_spans_exported_total 1"));
}

TEST_F(SpanExporterTest, ACollectorThatIsDownCostsNothingButSpans) {
  std::string url;
  {
    const FakeCollector gone;
    url = gone.url();
  }
  options_.max_queue = 10;
  options_.attempts = 2;
  Start(url);
  for (int i = 0; i < 1000; ++i) {
    exporter_->Add(ASpan());
  }
  ASSERT_TRUE(WaitFor([&] {
    return metrics_.Expose().find("yangtuo_spans_dropped_total{reason=\"export_failed\"} 0") ==
           std::string::npos;
  }));
  exporter_.reset();
  const std::string text = metrics_.Expose();
  EXPECT_THAT(text, HasSubstr("yangtuo_spans_exported_total 0"));
  EXPECT_THAT(text, Not(HasSubstr("reason=\"queue_full\"} 0")));
}

TEST_F(SpanExporterTest, ASilentCollectorHoldsTheEndUpNoLongerThanAllowed) {
  FakeCollector collector;
  collector.Plan({{.silent = true}});
  options_.flush_limit = milliseconds(200);
  options_.post_limit = std::chrono::hours(1);
  options_.max_batch = 1;
  Start(collector.url());
  exporter_->Add(ASpan());
  exporter_->Add(ASpan());
  ASSERT_TRUE(WaitFor([&] { return collector.bodies().size() == 1; }));
  const TimePoint begin = std::chrono::steady_clock::now();
  exporter_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
  EXPECT_TRUE(Exposes("yangtuo_spans_dropped_total{reason=\"export_failed\"} 2"))
      << metrics_.Expose();
}

TEST_F(SpanExporterTest, AnAttemptHasItsLimit) {
  FakeCollector collector;
  collector.Plan({{.silent = true}, {.status = 200}});
  options_.post_limit = milliseconds(100);
  Start(collector.url());
  exporter_->Add(ASpan());
  EXPECT_TRUE(WaitFor([&] { return Exposes("yangtuo_spans_exported_total 1"); }));
}

TEST(OtlpClientTest, SaysWhichNameItDoesNotFind) {
  const auto answer = ClientOf("http://no-such-host.invalid:4318")
                          ->Post("{}", std::chrono::steady_clock::now() + kPatience);
  EXPECT_TRUE(absl::IsUnavailable(answer.status())) << answer.status();
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("no-such-host.invalid:4318"));
}

class OtlpClientTlsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string command = absl::StrFormat(
        "cd '%s' && for name in collector stranger; do openssl req -x509 -newkey ec -pkeyopt "
        "ec_paramgen_curve:P-256 -nodes -keyout $name.key -out $name.pem -days 2 -subj /CN=$name "
        "-addext subjectAltName=DNS:localhost 2>openssl.log; done",
        folder_.path().string());
    ASSERT_EQ(std::system(command.c_str()), 0);
  }
  [[nodiscard]] std::string Path(const char* name) const { return folder_.path() / name; }

  TempDir folder_;
};

TEST_F(OtlpClientTlsTest, SendsOverTlsToTheCollectorWhoseAuthorityItKnows) {
  FakeCollector collector(Path("collector.pem"), Path("collector.key"));
  const auto answer = ClientOf(collector.url("localhost"), Path("collector.pem"))
                          ->Post("{}", std::chrono::steady_clock::now() + kPatience);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(collector.bodies(), SizeIs(1));
}

TEST_F(OtlpClientTlsTest, SendsNothingToAStranger) {
  FakeCollector collector(Path("collector.pem"), Path("collector.key"));
  const TimePoint end = std::chrono::steady_clock::now() + kPatience;
  EXPECT_FALSE(ClientOf(collector.url("localhost"), Path("stranger.pem"))->Post("{}", end).ok());
  EXPECT_FALSE(ClientOf(collector.url("127.0.0.1"), Path("collector.pem"))->Post("{}", end).ok())
      << "the certificate is for another name";
  EXPECT_THAT(collector.bodies(), SizeIs(0));
}

TEST_F(OtlpClientTlsTest, SaysWhichFileHoldsNoAuthority) {
  const auto client = OtlpClient::Create(*ParseOtlpEndpoint("https://localhost"), Path("none.pem"));
  EXPECT_TRUE(absl::IsInvalidArgument(client.status()));
  EXPECT_THAT(std::string(client.status().message()), HasSubstr("none.pem"));
}

}  // namespace
}  // namespace yangtuo
