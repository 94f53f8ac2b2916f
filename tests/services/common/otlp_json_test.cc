#include "services/common/otlp_json.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using Json = nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

SpanData ASpan() {
  const auto context = ParseTraceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  SpanData span;
  span.context = *context;
  span.name = "chat alpaca";
  span.kind = SpanKind::kServer;
  span.start_unix_ns = 1'700'000'000'123'456'789;
  span.end_unix_ns = 1'700'000'001'000'000'000;
  return span;
}

Json SpanOf(const std::string& request) {
  const Json json = Json::parse(request);
  return json["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
}

TEST(OtlpJsonTest, HasTheShapeOfAnExportTraceServiceRequest) {
  const Json json =
      Json::parse(ToOtlpJson({{"service.name", "yangtuo-gateway"}}, {ASpan(), ASpan()}));
  ASSERT_EQ(json["resourceSpans"].size(), 1U);
  const Json& resource = json["resourceSpans"][0];
  EXPECT_EQ(resource["resource"]["attributes"],
            Json::parse(R"([{"key":"service.name","value":{"stringValue":"yangtuo-gateway"}}])"));
  ASSERT_EQ(resource["scopeSpans"].size(), 1U);
  EXPECT_EQ(resource["scopeSpans"][0]["scope"]["name"], "yangtuo");
  EXPECT_EQ(resource["scopeSpans"][0]["spans"].size(), 2U);
}

TEST(OtlpJsonTest, WritesIdsInHexadecimalTimesAsTextAndKindsAsNumbers) {
  const Json span = SpanOf(ToOtlpJson({}, {ASpan()}));
  EXPECT_EQ(span["traceId"], "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(span["spanId"], "b7ad6b7169203331");
  EXPECT_EQ(span["startTimeUnixNano"], "1700000000123456789");
  EXPECT_EQ(span["endTimeUnixNano"], "1700000001000000000");
  EXPECT_EQ(span["kind"], 2);
  EXPECT_EQ(span["status"], Json::object());
  EXPECT_FALSE(span.contains("parentSpanId")) << "the first span of a trace has none";
}

TEST(OtlpJsonTest, WritesParentStateAndFailure) {
  SpanData data = ASpan();
  data.parent = data.context.span_id;
  data.tracestate = "vendor=1";
  data.failed = true;
  const Json span = SpanOf(ToOtlpJson({}, {data}));
  EXPECT_EQ(span["parentSpanId"], "b7ad6b7169203331");
  EXPECT_EQ(span["traceState"], "vendor=1");
  EXPECT_EQ(span["status"], Json::parse(R"({"code":2})"));
}

TEST(OtlpJsonTest, WritesEveryTypeOfAttribute) {
  SpanData data = ASpan();
  data.attributes = {{"text", std::string("羊驼")},
                     {"number", std::int64_t{9'007'199'254'740'993}},
                     {"ratio", 0.5},
                     {"yes", true},
                     {"list", std::vector<std::string>{"stop", "length"}}};
  EXPECT_EQ(SpanOf(ToOtlpJson({}, {data}))["attributes"], Json::parse(R"([
    {"key":"text","value":{"stringValue":"羊驼"}},
    {"key":"number","value":{"intValue":"9007199254740993"}},
    {"key":"ratio","value":{"doubleValue":0.5}},
    {"key":"yes","value":{"boolValue":true}},
    {"key":"list","value":{"arrayValue":{"values":[{"stringValue":"stop"},{"stringValue":"length"}]}}}
  ])"));
}

TEST(OtlpJsonTest, ReplacesBytesThatAreNotUtf8) {
  SpanData data = ASpan();
  data.name = "chat \xFF";
  EXPECT_EQ(SpanOf(ToOtlpJson({}, {data}))["name"], "chat \xEF\xBF\xBD");
}

TEST(RejectedSpansTest, ReadsWhatACollectorMaySay) {
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}})"), 3);
  EXPECT_EQ(RejectedSpans(R"({"partialSuccess":{"rejectedSpans":4}})"), 4);
  for (const char* nothing :
       {"", "{}", "[]", "ok", R"({"partialSuccess":{}})", R"({"partialSuccess":7})",
        R"({"partialSuccess":{"rejectedSpans":"many"}})",
        R"({"partialSuccess":{"rejectedSpans":-1}})"}) {
    EXPECT_EQ(RejectedSpans(nothing), 0) << nothing;
  }
}

struct Url {
  const char* text;
  bool tls;
  const char* host;
  int port;
  const char* path;
};

TEST(OtlpEndpointTest, ReadsBaseUrls) {
  for (const Url& url :
       {Url{"http://127.0.0.1:4318", false, "127.0.0.1", 4318, "/v1/traces"},
        Url{"http://collector:4318/", false, "collector", 4318, "/v1/traces"},
        Url{"https://otlp.example.com", true, "otlp.example.com", 443, "/v1/traces"},
        Url{"http://c", false, "c", 80, "/v1/traces"},
        Url{"http://c/team/a/", false, "c", 80, "/team/a/v1/traces"},
        Url{"http://c:1/v1/traces", false, "c", 1, "/v1/traces"},
        Url{"http://[::1]:4318", false, "::1", 4318, "/v1/traces"},
        Url{"http://[::1]", false, "::1", 80, "/v1/traces"}}) {
    const auto endpoint = ParseOtlpEndpoint(url.text);
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    EXPECT_EQ(endpoint->tls, url.tls) << url.text;
    EXPECT_EQ(endpoint->host, url.host);
    EXPECT_EQ(endpoint->port, url.port) << url.text;
    EXPECT_EQ(endpoint->path, url.path);
  }
}

TEST(OtlpEndpointTest, SaysWhatItExpected) {
  for (const char* text :
       {"", "collector:4318", "grpc://collector:4317", "http://", "http://:4318",
        "http://c:", "http://c:0", "http://c:65536", "http://c:12x", "http://[::1", "http://[::1]x",
        "http://a b", "http://c/?q", "http://user@c"}) {
    const auto endpoint = ParseOtlpEndpoint(text);
    ASSERT_FALSE(endpoint.ok()) << text;
    EXPECT_THAT(std::string(endpoint.status().message()), HasSubstr("http://127.0.0.1:4318"));
  }
}

TEST(ResourceAttributesTest, ReadsKeysAndPercentEncodedValues) {
  const auto attributes = ParseResourceAttributes("k8s.pod.name=w-0, team=a%2Cb%20c ,empty=,");
  ASSERT_TRUE(attributes.ok()) << attributes.status();
  EXPECT_THAT(*attributes, ElementsAre(Pair("k8s.pod.name", AttributeValue(std::string("w-0"))),
                                       Pair("team", AttributeValue(std::string("a,b c"))),
                                       Pair("empty", AttributeValue(std::string()))));
  for (const char* bad : {"key", "=value", "a=%2", "a=%zz"}) {
    EXPECT_FALSE(ParseResourceAttributes(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace yangtuo
