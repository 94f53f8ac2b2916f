// Against the answers of the reference's demo servers, as its documentation and source have them.

#include "gateway/openai/demo_shapes.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status.h"

namespace yangtuo::gateway::openai {
namespace {

TEST(DemoShapesTest, AChatRepeatsTheDialogueBeforeItsAnswer) {
  const Json body = Json::parse(
      R"({"messages": [{"role": "user", "message": "给我讲一些有关杭州的故事吧"},
                       {"role": "assistant", "content": "好"}]})");
  const Json answer = Json::parse(
      R"({"id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m",
          "choices": [{"index": 0, "message": {"role": "assistant", "content": "从前", "refusal": null},
                       "finish_reason": "length", "logprobs": null}],
          "usage": {"total_tokens": 3}})");
  EXPECT_EQ(DemoAnswer(body, answer), Json::parse(R"({
      "id": "chatcmpl-1", "object": "chat.completion", "created": 7, "model": "m",
      "choices": [{"index": 0, "message": {"role": "user", "content": "给我讲一些有关杭州的故事吧"}},
                  {"index": 1, "message": {"role": "assistant", "content": "好"}},
                  {"index": 2, "message": {"role": "assistant", "content": "从前"}}]})"));
  EXPECT_EQ(DemoAnswer(Json{{"messages", "你好"}}, answer)["choices"][0]["message"]["content"],
            "你好");
}

TEST(DemoShapesTest, ACompletionHasItsTextAndNothingElse) {
  const Json answer = Json::parse(
      R"({"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m",
          "choices": [{"index": 0, "text": "a", "finish_reason": "stop", "logprobs": null}],
          "usage": {}})");
  EXPECT_EQ(DemoAnswer(Json{{"prompt", "p"}}, answer), Json::parse(R"({
      "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m",
      "choices": [{"index": 0, "text": "a"}]})"));
}

TEST(DemoShapesTest, EventsHaveNoIdentityAndEndWithStop) {
  const auto event = [](const std::string& choice) {
    return std::string(
               R"(data: {"id": "1", "object": "chat.completion.chunk", "created": 7, "model": "m",
"choices": [)") +
           choice + "]}\n\n";
  };
  const std::string events =
      event(R"({"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": null,
                "finish_reason": null})") +
      event(R"({"index": 0, "delta": {"content": "羊"}, "finish_reason": null})") +
      event(R"({"index": 0, "delta": {}, "finish_reason": "length"})") + event("") +
      "data: [DONE]\n\n";
  const std::string head =
      R"(data: {"object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":)";
  const std::string tail = "}]}\n\n";
  EXPECT_EQ(DemoEvents(events), head + R"({"role":"assistant"},"finish_reason":null)" + tail +
                                    head + R"({"content":"羊"},"finish_reason":null)" + tail +
                                    head + R"({},"finish_reason":"stop")" + tail +
                                    "data: [DONE]\n\n");
  EXPECT_EQ(DemoEvents(""), "");
}

TEST(DemoShapesTest, AListOfTextsIsOneItemWithAListOfVectors) {
  const Json answer = Json::parse(
      R"({"object": "list", "model": "m", "usage": {},
          "data": [{"object": "embedding", "index": 0, "embedding": [1, 0]},
                   {"object": "embedding", "index": 1, "embedding": [0, 1]}]})");
  EXPECT_EQ(DemoEmbeddings(Json::parse(R"({"input": ["a", "b"]})"), answer), Json::parse(R"({
      "object": "list",
      "data": [{"object": "embedding", "embedding": [[1, 0], [0, 1]], "index": 0}],
      "model": "m"})"));
  EXPECT_EQ(DemoEmbeddings(Json::parse(R"({"input": "a"})"), answer)["data"][0]["embedding"],
            Json::parse("[1, 0]"));
}

TEST(DemoShapesTest, ErrorsAreThoseOfFastApi) {
  const HttpError wrong = DemoError(WrongField("messages", "is missing"));
  EXPECT_EQ(wrong.status, 422);
  EXPECT_EQ(wrong.body, Json::parse(R"({"detail": [{"loc": ["body", "messages"],
      "msg": "messages: is missing", "type": "value_error"}]})"));
  const HttpError full = DemoError(absl::ResourceExhaustedError("full"));
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.body, Json::parse(R"({"detail": "full"})"));
  EXPECT_EQ(full.retry_after_seconds, 1);
}

TEST(DemoShapesTest, DefaultsAreTheirsUnlessTheBodyHasOthers) {
  Json body = Json::parse(R"({"temperature": 0, "top_k": null, "user": "u"})");
  TakeDemoDefaults(body);
  EXPECT_EQ(body, Json::parse(R"({"temperature": 0, "top_k": 40, "top_p": 0.9,
                                  "repetition_penalty": 1.1, "max_tokens": 512})"));
}

TEST(DemoShapesTest, TextPromptsBecomeInstructions) {
  GenerateCall call = *ParseGenerateCall(Api::kCompletions, Json{{"prompt", "写诗"}});
  WrapPrompts(call);
  ASSERT_TRUE(call.requests[0].has_chat());
  EXPECT_EQ(call.requests[0].chat().messages(0).role(), "user");
  EXPECT_EQ(call.requests[0].chat().messages(0).content(), "写诗");
  GenerateCall ids = *ParseGenerateCall(Api::kCompletions, Json::parse(R"({"prompt": [1, 2]})"));
  WrapPrompts(ids);
  EXPECT_TRUE(ids.requests[0].has_token_ids());
}

}  // namespace
}  // namespace yangtuo::gateway::openai
