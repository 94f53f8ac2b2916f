#include "services/common/tracer.h"

#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status.h"
#include "tests/services/common/fake_collector.h"

namespace yangtuo {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

constexpr char kParent[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
constexpr char kUnsampled[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

class TracerTest : public ::testing::Test {
 protected:
  void Start(TracingOptions options = {}) {
    options.endpoint = collector_.url();
    auto tracer = Tracer::Start(options, "yangtuo-test", metrics_);
    ASSERT_TRUE(tracer.ok()) << tracer.status();
    tracer_ = *std::move(tracer);
  }

  // Flushes, and gives the spans by name.
  std::map<std::string, Json> Spans() {
    tracer_.reset();
    std::map<std::string, Json> spans;
    for (const std::string& body : collector_.bodies()) {
      const Json json = Json::parse(body);
      resource_ = json["resourceSpans"][0]["resource"]["attributes"];
      for (const Json& span : json["resourceSpans"][0]["scopeSpans"][0]["spans"]) {
        EXPECT_FALSE(spans.contains(span["name"])) << span;
        spans[span["name"]] = span;
      }
    }
    return spans;
  }
  static Json Attribute(const Json& attributes, const std::string& key) {
    for (const Json& one : attributes) {
      if (one["key"] == key) {
        return one["value"];
      }
    }
    return nullptr;
  }

  FakeCollector collector_;
  Metrics metrics_;
  std::unique_ptr<Tracer> tracer_;
  Json resource_;
};

TEST_F(TracerTest, ARequestWithATraceBecomesPartOfIt) {
  Start();
  const RequestContext incoming{
      .request_id = "r1", .traceparent = kParent, .tracestate = "vendor=1"};
  {
    const Span span = tracer_->Serve(incoming, "serve");
    const RequestContext onwards = ContextWithin(incoming, span);
    EXPECT_EQ(onwards.request_id, "r1");
    EXPECT_EQ(onwards.traceparent, ToTraceparent(*span.context()));
    EXPECT_EQ(onwards.tracestate, "vendor=1");
  }
  const auto spans = Spans();
  ASSERT_EQ(spans.size(), 1U);
  const Json& span = spans.at("serve");
  EXPECT_EQ(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(span["parentSpanId"], "b7ad6b7169203331");
  EXPECT_NE(span["spanId"], "b7ad6b7169203331");
  EXPECT_EQ(span["traceState"], "vendor=1");
  EXPECT_EQ(span["kind"], 2);
  EXPECT_LE(std::stoull(span["startTimeUnixNano"].get<std::string>()),
            std::stoull(span["endTimeUnixNano"].get<std::string>()));
}

TEST_F(TracerTest, ARequestWithoutOneBeginsATrace) {
  Start();
  tracer_->Serve({.tracestate = "of=nothing"}, "serve").End(absl::OkStatus());
  const auto spans = Spans();
  ASSERT_EQ(spans.size(), 1U);
  EXPECT_FALSE(spans.at("serve").contains("parentSpanId"));
  EXPECT_FALSE(spans.at("serve").contains("traceState"));
}

TEST_F(TracerTest, TheParentDecidesWhetherATraceIsRecordedNotTheRatio) {
  Start({.sample_ratio = 0});
  tracer_->Serve({.traceparent = kParent}, "recorded").End(absl::OkStatus());
  const Span unsampled = tracer_->Serve({.traceparent = kUnsampled}, "not recorded");
  EXPECT_FALSE(unsampled.recording());
  EXPECT_EQ(ContextWithin({.traceparent = kUnsampled}, unsampled).traceparent, kUnsampled);
  EXPECT_FALSE(unsampled.Child("nor its parts", SpanKind::kClient).recording());
  EXPECT_EQ(Spans().size(), 1U);
}

TEST_F(TracerTest, ATraceThatIsNotRecordedSaysSoOnwards) {
  Start({.sample_ratio = 0});
  const Span span = tracer_->Serve({}, "serve");
  EXPECT_FALSE(span.recording());
  const auto onwards = ParseTraceparent(ContextWithin({}, span).traceparent);
  ASSERT_TRUE(onwards.has_value()) << "others must not decide anew";
  EXPECT_FALSE(onwards->sampled);
}

TEST_F(TracerTest, PartsHangBelowTheirSpan) {
  Start();
  {
    const Span span = tracer_->Serve({.traceparent = kParent}, "serve");
    const Span call = span.Child("call", SpanKind::kClient);
    const TimePoint now = std::chrono::steady_clock::now();
    call.AddChild("queue", now - std::chrono::milliseconds(30), now - std::chrono::milliseconds(10),
                  {{"yangtuo.steps", std::int64_t{3}}});
  }
  const auto spans = Spans();
  ASSERT_EQ(spans.size(), 3U);
  EXPECT_EQ(spans.at("call")["parentSpanId"], spans.at("serve")["spanId"]);
  EXPECT_EQ(spans.at("call")["kind"], 3);
  const Json& queue = spans.at("queue");
  EXPECT_EQ(queue["parentSpanId"], spans.at("call")["spanId"]);
  EXPECT_EQ(queue["kind"], 1);
  EXPECT_EQ(std::stoull(queue["endTimeUnixNano"].get<std::string>()) -
                std::stoull(queue["startTimeUnixNano"].get<std::string>()),
            20'000'000U);
  EXPECT_EQ(Attribute(queue["attributes"], "yangtuo.steps"), Json::parse(R"({"intValue":"3"})"));
}

TEST_F(TracerTest, ASpanEndsOnceAndKeepsTheLastValueOfAnAttribute) {
  Start();
  const Span span = tracer_->Serve({}, "first name");
  span.SetName("serve");
  span.Set("key", std::string("old"));
  span.Set("key", std::string("new"));
  span.Set("long", std::string(5000, 'x'));
  span.End(absl::OkStatus());
  span.End(absl::InternalError("too late"));
  const auto spans = Spans();
  ASSERT_EQ(spans.size(), 1U);
  const Json& attributes = spans.at("serve")["attributes"];
  EXPECT_EQ(attributes.size(), 2U);
  EXPECT_EQ(Attribute(attributes, "key")["stringValue"], "new");
  EXPECT_EQ(Attribute(attributes, "long")["stringValue"].get<std::string>().size(), 256U);
  EXPECT_EQ(spans.at("serve")["status"], Json::object());
}

TEST_F(TracerTest, ErrorsAreNamedAndAServerFailsOnlyWithItsOwn) {
  Start();
  const Span span = tracer_->Serve({}, "client's mistake");
  span.Child("call", SpanKind::kClient)
      .End(WithReason(absl::ResourceExhaustedError("secret words"), "QUEUE_FULL"));
  span.Child("given up", SpanKind::kClient).End(absl::CancelledError("not needed"));
  span.End(absl::InvalidArgumentError("secret words"));
  tracer_->Serve({}, "our mistake").End(absl::InternalError("secret words"));
  const auto spans = Spans();
  const Json failed = Json::parse(R"({"code":2})");
  EXPECT_EQ(spans.at("client's mistake")["status"], Json::object());
  EXPECT_EQ(Attribute(spans.at("client's mistake")["attributes"], "error.type")["stringValue"],
            "INVALID_ARGUMENT");
  EXPECT_EQ(spans.at("our mistake")["status"], failed);
  EXPECT_EQ(spans.at("call")["status"], failed);
  EXPECT_EQ(Attribute(spans.at("call")["attributes"], "error.type")["stringValue"], "QUEUE_FULL");
  EXPECT_EQ(spans.at("given up")["status"], Json::object());
  EXPECT_THAT(collector_.bodies(), testing::Not(testing::Contains(HasSubstr("secret"))));
}

TEST_F(TracerTest, TheResourceNamesProgramAndPlace) {
  Start({.resource_attributes = "k8s.pod.name=worker-0,host.name=there"});
  tracer_->Serve({}, "serve").End(absl::OkStatus());
  Spans();
  EXPECT_EQ(Attribute(resource_, "service.name")["stringValue"], "yangtuo-test");
  EXPECT_EQ(Attribute(resource_, "k8s.pod.name")["stringValue"], "worker-0");
  EXPECT_EQ(Attribute(resource_, "host.name")["stringValue"], "there");
  EXPECT_NE(Attribute(resource_, "service.instance.id"), nullptr);
}

TEST_F(TracerTest, TheServicesNameCanBeGiven) {
  Start({.service_name = "chat", .resource_attributes = "service.name=other"});
  tracer_->Serve({}, "serve").End(absl::OkStatus());
  Spans();
  EXPECT_EQ(Attribute(resource_, "service.name")["stringValue"], "chat");
}

TEST(TracerOffTest, PassesOnWhatCameAndRecordsNothing) {
  const Tracer off;
  const Span span = off.Serve({.traceparent = kParent}, "serve");
  EXPECT_FALSE(span.recording());
  EXPECT_EQ(ContextWithin({.traceparent = kParent}, span).traceparent, kParent);
  const RequestContext rubbish{.request_id = "r", .traceparent = "rubbish", .tracestate = "a=b"};
  const RequestContext onwards = ContextWithin(rubbish, off.Serve(rubbish, "serve"));
  EXPECT_EQ(onwards.request_id, "r");
  EXPECT_EQ(onwards.traceparent, "");
  EXPECT_EQ(onwards.tracestate, "");
}

TEST(TracingOptionsTest, NamesTheFlagThatIsWrong) {
  EXPECT_THAT(std::string(CheckTracingOptions({.endpoint = "collector:4317"}).message()),
              HasSubstr("--otlp-endpoint"));
  EXPECT_THAT(std::string(CheckTracingOptions({.sample_ratio = 1.5}).message()),
              HasSubstr("--otlp-sample-ratio"));
  EXPECT_THAT(
      std::string(
          CheckTracingOptions({.endpoint = "http://c", .resource_attributes = "a"}).message()),
      HasSubstr("OTEL_RESOURCE_ATTRIBUTES"));
  EXPECT_TRUE(CheckTracingOptions({.resource_attributes = "a"}).ok()) << "nothing is traced";
}

}  // namespace
}  // namespace yangtuo
