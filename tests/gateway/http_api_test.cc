// The HTTP API of a gateway between fakes.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/gateway_harness.h"
#include "tests/gateway/raw_client.h"

namespace yangtuo::gateway {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using yangtuo::testing::FakeTokenizer;
using yangtuo::testing::FakeWorker;
using yangtuo::testing::RawClient;

struct HttpReply {
  int status = 0;
  std::string head;
  json body;
};

HttpReply Ask(int port, const std::string& method, const std::string& path,
              const std::string& body = "") {
  RawClient client(port);
  client.Send(method + " " + path +
              " HTTP/1.1\r\nHost: x\r\nX-Request-Id: test-1\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body);
  const std::string answer = client.ReadAnswer();
  HttpReply reply;
  const std::size_t end = answer.find("\r\n\r\n");
  reply.head = answer.substr(0, end);
  reply.status = reply.head.size() > 12 ? std::stoi(reply.head.substr(9, 3)) : 0;
  reply.body = json::parse(answer.substr(std::min(answer.size(), end + 4)), nullptr, false);
  return reply;
}

// The events of a streamed answer, without their "data: ".
std::vector<std::string> Stream(int port, const std::string& path, const std::string& body) {
  RawClient client(port);
  client.Send("POST " + path + " HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
              "\r\n\r\n" + body);
  const std::string answer = client.ReadToEnd();
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/event-stream\r\n"));
  std::vector<std::string> events;
  for (std::size_t at = answer.find("data: "); at != std::string::npos;
       at = answer.find("data: ", at + 1)) {
    events.push_back(answer.substr(at + 6, answer.find("\n\n", at) - at - 6));
  }
  return events;
}

constexpr char kHello[] =
    R"({"model": "fake-model", "messages": [{"role": "user", "content": "hi"}]})";

class HttpApiTest : public ::testing::Test {
 protected:
  FakeWorker worker_{Says("羊驼 says hi")};
  FakeTokenizer tokenizer_;
  Cluster cluster_{{&worker_}, {&tokenizer_}};
  const int port_ = cluster_.gateway().http_port();
};

TEST_F(HttpApiTest, AnswersAChatWithUsageAndTheRequestId) {
  const HttpReply reply = Ask(port_, "POST", "/v1/chat/completions", kHello);
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.head, HasSubstr("X-Request-Id: test-1"));
  EXPECT_EQ(reply.body["choices"][0]["message"]["content"], "羊驼 says hi");
  EXPECT_EQ(reply.body["choices"][0]["finish_reason"], "stop");
  EXPECT_GT(reply.body["usage"]["prompt_tokens"], 0);
  EXPECT_EQ(worker_.last_request_id(), "test-1");
}

TEST_F(HttpApiTest, AStreamSaysTheSameAsAWholeAnswer) {
  const auto events = Stream(port_, "/v1/completions",
                             R"({"prompt": "a", "max_tokens": 100, "stream": true,
                                 "stream_options": {"include_usage": true}})");
  ASSERT_GE(events.size(), 4U);
  EXPECT_EQ(events.back(), "[DONE]");
  std::string text;
  for (std::size_t i = 0; i + 2 < events.size(); ++i) {
    text += json::parse(events[i])["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, "羊驼 says hi");
  EXPECT_GT(json::parse(events[events.size() - 2])["usage"]["completion_tokens"], 0);
  const HttpReply whole =
      Ask(port_, "POST", "/v1/completions", R"({"prompt": "a", "max_tokens": 100})");
  EXPECT_EQ(whole.body["choices"][0]["text"], text);
}

TEST_F(HttpApiTest, SeveralPromptsAndChoicesAreNumberedThrough) {
  const HttpReply reply =
      Ask(port_, "POST", "/v1/completions", R"({"prompt": ["a", "b"], "n": 2, "max_tokens": 100})");
  ASSERT_EQ(reply.body["choices"].size(), 4U) << reply.body;
  EXPECT_EQ(reply.body["choices"][3]["index"], 3);
  const auto events =
      Stream(port_, "/v1/completions", R"({"prompt": ["a", "b"], "n": 2, "stream": true})");
  std::set<int> finished;
  for (std::size_t i = 0; i + 1 < events.size(); ++i) {
    const json choice = json::parse(events[i])["choices"][0];
    if (!choice["finish_reason"].is_null()) {
      finished.insert(choice["index"].get<int>());
    }
  }
  EXPECT_THAT(finished, ElementsAre(0, 1, 2, 3));
}

TEST_F(HttpApiTest, MistakesHaveOpenAisShape) {
  const HttpReply absent =
      Ask(port_, "POST", "/v1/chat/completions", R"({"model": "none", "messages": "hi"})");
  EXPECT_EQ(absent.status, 404);
  EXPECT_EQ(absent.body["error"]["code"], "model_not_found");
  const HttpReply broken = Ask(port_, "POST", "/v1/chat/completions", "{\"a\": \"\xff\"}");
  EXPECT_EQ(broken.status, 400);
  EXPECT_EQ(broken.body["error"]["type"], "invalid_request_error");
  const HttpReply hot =
      Ask(port_, "POST", "/v1/completions", R"({"prompt": "a", "temperature": 1000})");
  EXPECT_EQ(hot.body["error"]["param"], "temperature");
  const HttpReply large =
      Ask(port_, "POST", "/v1/completions", json{{"prompt", std::string(2000, 'a')}}.dump());
  EXPECT_EQ(large.status, 400);
  EXPECT_EQ(large.body["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(Ask(port_, "GET", "/v2/nothing").status, 404);
  const HttpReply method = Ask(port_, "GET", "/v1/completions");
  EXPECT_EQ(method.status, 405);
  EXPECT_THAT(method.head, HasSubstr("Allow: POST"));
  EXPECT_EQ(cluster_.Exposed().find("yangtuo_requests_running 1"), std::string::npos);
}

TEST_F(HttpApiTest, EmbedsTextsAndTokens) {
  const HttpReply texts = Ask(port_, "POST", "/v1/embeddings", R"({"input": ["a", "abc"]})");
  ASSERT_EQ(texts.status, 200) << texts.body;
  EXPECT_EQ(texts.body["data"][1]["index"], 1);
  EXPECT_EQ(texts.body["data"][1]["embedding"][0], 4);  // BOS and three bytes
  const HttpReply tokens = Ask(port_, "POST", "/v1/embeddings", R"({"input": [[1, 5], [7]]})");
  EXPECT_EQ(tokens.body["data"][0]["embedding"][0], 2);
  EXPECT_EQ(tokens.body["data"][1]["embedding"][0], 1);
  EXPECT_EQ(tokens.body["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(Ask(port_, "POST", "/v1/embeddings", R"({"input": [[100000]]})").status, 400);
}

TEST_F(HttpApiTest, AnEchoHasANameForEveryTokenAndNoProbabilityForTheFirst) {
  worker_.SetScript(Says("yz"));
  const HttpReply reply =
      Ask(port_, "POST", "/v1/completions", R"({"prompt": "羊b", "echo": true, "logprobs": 1})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json& choice = reply.body["choices"][0];
  EXPECT_EQ(choice["text"], "羊byz");
  const json& logprobs = choice["logprobs"];
  // BOS and the bytes of a character have no text of their own.
  EXPECT_EQ(logprobs["tokens"],
            json::array({"", "bytes:\\xe7", "bytes:\\xbe", "bytes:\\x8a", "b", "y", "z"}));
  EXPECT_EQ(logprobs["token_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["top_logprobs"][0], nullptr);
  EXPECT_EQ(logprobs["token_logprobs"][1], -1);
  EXPECT_EQ(logprobs["text_offset"], json::array({0, 0, 1, 1, 1, 2, 3})) << "characters";
  EXPECT_NE(Ask(port_, "POST", "/v1/completions", R"({"prompt": "a", "best_of": 2, "logprobs": 0})")
                .body["choices"][0]["logprobs"],
            nullptr);
}

TEST_F(HttpApiTest, TokenizesAndBack) {
  const HttpReply tokens = Ask(port_, "POST", "/tokenize", R"({"prompt": "ab"})");
  EXPECT_EQ(tokens.body["tokens"], json::array({1, 100, 101}));
  EXPECT_EQ(tokens.body["count"], 3);
  EXPECT_EQ(tokens.body["max_model_len"], 512);
  EXPECT_EQ(Ask(port_, "POST", "/tokenize", R"({"content": "ab"})").body["tokens"],
            json::array({100, 101}));
  const HttpReply text = Ask(port_, "POST", "/detokenize", R"({"tokens": [100, 101]})");
  EXPECT_EQ(text.body["content"], "ab");
  EXPECT_EQ(text.body["prompt"], "ab");
  const HttpReply chat = Ask(port_, "POST", "/apply-template", kHello);
  EXPECT_EQ(chat.status, 200);
  EXPECT_THAT(chat.body["prompt"].get<std::string>(), HasSubstr("hi"));
}

TEST_F(HttpApiTest, TellsItsModelsAndHealth) {
  const HttpReply models = Ask(port_, "GET", "/v1/models");
  EXPECT_EQ(models.body["data"][0]["id"], "fake-model");
  EXPECT_EQ(models.body["data"][0]["max_model_len"], 512);
  EXPECT_EQ(Ask(port_, "GET", "/v1/models/fake-model").body["id"], "fake-model");
  EXPECT_EQ(Ask(port_, "GET", "/v1/models/none").status, 404);
  EXPECT_EQ(Ask(port_, "GET", "/v1/models/").body["error"]["code"], "unknown_url");
  EXPECT_EQ(Ask(port_, "GET", "/health").status, 200);
  EXPECT_EQ(Ask(port_, "GET", "/version").status, 200);
}

TEST_F(HttpApiTest, AClientThatLeavesFreesWhatItHeld) {
  testing::FakeWorkerScript script = Says("abc");
  script.hold_at = 1;
  worker_.SetScript(script);
  for (const char* stream : {"true", "false"}) {
    RawClient client(port_);
    const std::string body = std::string(R"({"prompt": "a", "stream": )") + stream + "}";
    client.Send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                std::to_string(body.size()) + "\r\n\r\n" + body);
    EXPECT_TRUE(Eventually([&] { return worker_.running() == 1; }));
    client.Close();
    EXPECT_TRUE(Eventually([&] { return worker_.running() == 0 && cluster_.Idle(); }));
  }
}

TEST_F(HttpApiTest, AWorkerLostForGoodMidStreamIsAnErrorEventAfterTheText) {
  testing::FakeWorkerScript script = Says("abc");
  script.hold_at = 2;
  worker_.SetScript(script);
  RawClient client(port_);
  client.Send(
      "POST /v1/completions HTTP/1.0\r\nContent-Length: 31\r\n\r\n"
      R"({"prompt": "a", "stream": true})");
  EXPECT_THAT(client.ReadUntil("\"text\":\"b\""), HasSubstr("text/event-stream"));
  worker_.Kill();
  EXPECT_THAT(client.ReadToEnd(), HasSubstr("data: {\"error\":"));
}

TEST_F(HttpApiTest, AWorkerThatFailsIsAnErrorStatus) {
  testing::FakeWorkerScript script = Says("abc");
  script.fail_at = 0;
  script.failure = grpc::Status(grpc::StatusCode::INTERNAL, "bug");
  worker_.SetScript(script);
  for (const char* body : {R"({"prompt": "a"})", R"({"prompt": "a", "stream": true})"}) {
    EXPECT_EQ(Ask(port_, "POST", "/v1/completions", body).status, 500);
  }
}

TEST(HttpOverloadTest, AFullGatewayAnswersAtOnceWithRetryAfter) {
  testing::FakeWorkerScript script = Says("abc");
  script.hold_at = 0;
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer},
                  [](GatewayOptions& options) { options.admission.max_requests = 1; });
  const int port = cluster.gateway().http_port();
  RawClient first(port);
  first.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"prompt\": \"a\"}");
  ASSERT_TRUE(Eventually([&] { return worker.running() == 1; }));
  const HttpReply second = Ask(port, "POST", "/v1/completions", R"({"prompt": "b"})");
  EXPECT_EQ(second.status, 429);
  EXPECT_THAT(second.head, HasSubstr("Retry-After: 1"));
  EXPECT_EQ(second.body["error"]["type"], "rate_limit_error");
}

// What goes wrong before the first token is a status, with or without a stream: clients retry
// those.
TEST(HttpOverloadTest, AStreamThatNoWorkerHasRoomForIsRefusedBeforeItBegins) {
  testing::FakeWorkerScript script = Says("abc");
  script.fail_at = 0;
  script.failure = {grpc::StatusCode::RESOURCE_EXHAUSTED, "queue full"};
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  for (const char* path : {"/v1/completions", "/v1/chat/completions"}) {
    const HttpReply reply =
        Ask(cluster.gateway().http_port(), "POST", path,
            R"({"prompt": "b", "messages": [{"role": "user", "content": "b"}], "stream": true})");
    EXPECT_EQ(reply.status, 429);
    EXPECT_THAT(reply.head, HasSubstr("Retry-After: 1"));
    EXPECT_EQ(reply.body["error"]["type"], "rate_limit_error") << reply.body;
  }
}

TEST(HttpDrainTest, RunningAnswersEndAndHealthSaysSo) {
  testing::FakeWorkerScript script = Says("abc");
  script.interval = std::chrono::milliseconds(100);
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  RawClient client(cluster.gateway().http_port());
  client.Send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n{\"prompt\": \"a\"}");
  ASSERT_TRUE(Eventually([&] { return worker.running() == 1; }));
  std::thread drain([&] { cluster.gateway().Drain(std::chrono::seconds(10)); });
  const std::string answer = client.ReadToEnd();
  drain.join();
  EXPECT_THAT(answer, AllOf(StartsWith("HTTP/1.1 200"), HasSubstr("Connection: close"),
                            HasSubstr("\"text\":\"abc\"")));
}

}  // namespace
}  // namespace yangtuo::gateway
