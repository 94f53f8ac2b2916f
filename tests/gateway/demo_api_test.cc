// A gateway with --compat=demo between fakes.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/gateway_harness.h"
#include "tests/gateway/raw_client.h"

namespace yangtuo::gateway {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using yangtuo::testing::FakeTokenizer;
using yangtuo::testing::FakeWorker;
using yangtuo::testing::RawClient;

class DemoApiTest : public ::testing::Test {
 protected:
  std::string Ask(const std::string& path, const std::string& body) {
    RawClient client(cluster_.gateway().http_port());
    client.Send("POST " + path + " HTTP/1.0\r\nContent-Length: " + std::to_string(body.size()) +
                "\r\n\r\n" + body);
    return client.ReadToEnd();
  }
  static json BodyOf(const std::string& answer) {
    return json::parse(answer.substr(answer.find("\r\n\r\n") + 4));
  }

  FakeWorker worker_{Says("羊驼")};
  FakeTokenizer tokenizer_;
  Cluster cluster_{{&worker_}, {&tokenizer_}, [](GatewayOptions& options) {
                     options.front_end.compat = Compat::kDemo;
                   }};
};

TEST_F(DemoApiTest, ChatsRepeatTheDialogueAndAnyModelNameGoes) {
  const json answer = BodyOf(Ask("/v1/chat/completions",
                                 R"({"model": "chinese-llama-alpaca",
                                     "messages": [{"role": "user", "message": "hi"}]})"));
  ASSERT_EQ(answer["choices"].size(), 2U) << answer;
  EXPECT_EQ(answer["choices"][0]["message"], (json{{"role", "user"}, {"content", "hi"}}));
  EXPECT_EQ(answer["choices"][1]["message"], (json{{"role", "assistant"}, {"content", "羊驼"}}));
  EXPECT_FALSE(answer.contains("usage"));
  const auto request = worker_.requests().back();
  EXPECT_FLOAT_EQ(request.sampling().temperature(), 0.2F);
  EXPECT_EQ(request.sampling().top_k(), 40U);
}

TEST_F(DemoApiTest, PromptsOfCompletionsAreInstructions) {
  const json answer = BodyOf(Ask("/v1/completions", R"({"prompt": "hi"})"));
  EXPECT_EQ(answer["choices"], json::parse(R"([{"index": 0, "text": "羊驼"}])")) << answer;
  Ask("/v1/chat/completions", R"({"messages": "hi"})");
  const auto requests = worker_.requests();
  ASSERT_EQ(requests.size(), 2U);
  const auto ids_of = [](const internal::v1::GenerateRequest& request) {
    return std::vector<std::uint32_t>(request.prompt_ids().begin(), request.prompt_ids().end());
  };
  EXPECT_EQ(ids_of(requests[0]), ids_of(requests[1]));
}

TEST_F(DemoApiTest, StreamsHaveChunksWithoutIdentity) {
  const std::string answer = Ask("/v1/chat/completions", R"({"messages": "hi", "stream": true})");
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/event-stream"));
  EXPECT_THAT(answer, HasSubstr(R"("delta":{"role":"assistant"},"finish_reason":null)"));
  EXPECT_THAT(answer, HasSubstr(R"("delta":{},"finish_reason":"stop")"));
  EXPECT_THAT(answer, HasSubstr("data: [DONE]\n\n"));
  EXPECT_THAT(answer, Not(HasSubstr("chatcmpl-")));
}

TEST_F(DemoApiTest, EmbeddingsOfAListAreOneItem) {
  const json one = BodyOf(Ask("/v1/embeddings", R"({"input": "abc", "model": "x"})"));
  EXPECT_TRUE(one["data"][0]["embedding"][0].is_number()) << one;
  const json list = BodyOf(Ask("/v1/embeddings", R"({"input": ["abc", "a"]})"));
  ASSERT_EQ(list["data"].size(), 1U) << list;
  EXPECT_EQ(list["data"][0]["embedding"].size(), 2U);
  EXPECT_EQ(list["data"][0]["embedding"][0], one["data"][0]["embedding"]);
}

TEST_F(DemoApiTest, MistakesAreAnswered422WithDetails) {
  const std::string answer = Ask("/v1/chat/completions", "{}");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 422"));
  EXPECT_EQ(BodyOf(answer)["detail"][0]["loc"], json::parse(R"(["body", "messages"])"));
}

}  // namespace
}  // namespace yangtuo::gateway
