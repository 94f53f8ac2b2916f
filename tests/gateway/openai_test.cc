// The translation between OpenAI's JSON and the gateway's requests, without sockets.

#include <string>

#include "gateway/openai/error_body.h"
#include "gateway/openai/generate_answer.h"
#include "gateway/openai/generate_request.h"
#include "gateway/openai/other_calls.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status.h"

namespace yangtuo::gateway::openai {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

GenerateCall Chat(const std::string& members) {
  const auto body =
      ParseBody(R"({"messages": [{"role": "user", "content": "hi"}])" + members + "}");
  EXPECT_TRUE(body.ok()) << body.status();
  auto call = ParseGenerateCall(Api::kChat, *body);
  EXPECT_TRUE(call.ok()) << call.status();
  return *std::move(call);
}

// The "param" and "code" of the error that a body leads to.
std::pair<Json, Json> Refusal(Api api, const std::string& text) {
  const auto body = ParseBody(text);
  EXPECT_TRUE(body.ok()) << body.status();
  const auto call = ParseGenerateCall(api, *body);
  EXPECT_FALSE(call.ok()) << text;
  const HttpError error = ToHttpError(call.status());
  EXPECT_EQ(error.status, 400);
  return {error.body["error"]["param"], error.body["error"]["code"]};
}

TEST(ParseBodyTest, RefusesWhatIsNotAnObjectOfValidUtf8) {
  for (const std::string text :
       {"", "[1]", "\"a\"", "{", "{\"a\": 1} x", "{\"a\": \"\xff\"}", "{\"a\": \"\xed\xa0\x80\"}",
        "{\"a\": \"\\ud800\"}", "{\"a\": NaN}", "{'a': 1}"}) {
    EXPECT_EQ(ParseBody(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(ParseBodyTest, BoundsTheDepthButNotBracketsInStrings) {
  EXPECT_FALSE(ParseBody("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}").ok());
  EXPECT_FALSE(ParseBody("{\"a\":" + std::string(1000000, '[')).ok());
  EXPECT_TRUE(ParseBody("{\"a\": \"" + std::string(100, '[') + "\\\"[\"}").ok());
}

TEST(ParseBodyTest, BoundsTheMembersOfOneObjectAndOfAll) {
  const auto object = [](int members) {
    std::string text = "{";
    for (int i = 0; i < members; ++i) {
      text.append(i == 0 ? "\"k" : ",\"k").append(std::to_string(i)).append("\": \"a:b\"");
    }
    return text + "}";
  };
  EXPECT_TRUE(ParseBody(object(1024)).ok());
  EXPECT_EQ(ParseBody(object(1025)).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(ParseBody("{\"a\": [" + object(1025) + "]}").ok());
  std::string many = "{\"a\": [" + object(1000);
  for (int i = 0; i < 64; ++i) {
    many.append(",").append(object(1000));
  }
  EXPECT_TRUE(ParseBody(many + "]}").ok());
  EXPECT_FALSE(ParseBody(many + "," + object(1000) + "]}").ok());
}

TEST(ChatRequestTest, EverySamplingFieldArrives) {
  const GenerateCall call = Chat(R"(, "model": "m", "temperature": 0.25, "top_p": 0.5, "top_k": 7,
      "min_p": 0.125, "repetition_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": -1,
      "seed": 42, "logit_bias": {"5": -2.5}, "logprobs": true, "top_logprobs": 3, "n": 2,
      "max_tokens": 9, "min_tokens": 2, "stop": ["a", "b"], "stop_token_ids": [4],
      "ignore_eos": true, "stream": true, "stream_options": {"include_usage": true})");
  const v1::GenerateRequest& request = call.requests.at(0);
  EXPECT_EQ(request.model(), "m");
  EXPECT_EQ(request.sampling().temperature(), 0.25F);
  EXPECT_EQ(request.sampling().top_p(), 0.5F);
  EXPECT_EQ(request.sampling().top_k(), 7U);
  EXPECT_EQ(request.sampling().min_p(), 0.125F);
  EXPECT_EQ(request.sampling().repetition_penalty(), 1.5F);
  EXPECT_EQ(request.sampling().presence_penalty(), 1.0F);
  EXPECT_EQ(request.sampling().frequency_penalty(), -1.0F);
  EXPECT_EQ(request.sampling().seed(), 42U);
  EXPECT_EQ(request.sampling().logit_bias().at(5), -2.5F);
  EXPECT_EQ(request.sampling().logprobs(), 3U);
  EXPECT_EQ(request.n(), 2U);
  EXPECT_EQ(request.stop().max_new_tokens(), 9U);
  EXPECT_EQ(request.stop().min_new_tokens(), 2U);
  EXPECT_THAT(request.stop().stop_strings(), ElementsAre("a", "b"));
  EXPECT_THAT(request.stop().stop_token_ids(), ElementsAre(4));
  EXPECT_TRUE(request.stop().ignore_eos());
  EXPECT_TRUE(call.stream);
  EXPECT_TRUE(call.include_usage);
}

TEST(ChatRequestTest, AbsentAndNullFieldsStayDefaultsAndUnknownOnesAreIgnored) {
  const GenerateCall call = Chat(R"(, "temperature": null, "stop": null, "tools": [],
      "reasoning_effort": "none", "user": "x", "response_format": {"type": "text"})");
  EXPECT_FALSE(call.requests.at(0).sampling().has_temperature());
  EXPECT_FALSE(call.requests.at(0).sampling().has_seed());
  EXPECT_FALSE(call.requests.at(0).stop().has_max_new_tokens());
  EXPECT_FALSE(call.stream);
}

TEST(ChatRequestTest, DoSampleFalseIsGreedyAndTheNewerTokenLimitWins) {
  const GenerateCall call =
      Chat(R"(, "temperature": 0.7, "do_sample": false, "max_tokens": 5, "max_completion_tokens": 6,
              "top_k": -1, "stop": "x")");
  EXPECT_EQ(call.requests.at(0).sampling().temperature(), 0.0F);
  EXPECT_EQ(call.requests.at(0).sampling().top_k(), 0U);
  EXPECT_EQ(call.requests.at(0).stop().max_new_tokens(), 6U);
  EXPECT_THAT(call.requests.at(0).stop().stop_strings(), ElementsAre("x"));
}

TEST(ChatRequestTest, MessagesOfAllClientsAreUnderstood) {
  const auto chat = ParseMessages(Json::parse(R"([
      {"role": "developer", "content": "be brief"},
      {"role": "user", "message": "old key"},
      {"role": "assistant", "content": "yes"},
      {"role": "user", "content": [{"type": "text", "text": "part one, "},
                                   {"type": "text", "text": "part two"}]}])"));
  ASSERT_TRUE(chat.ok()) << chat.status();
  ASSERT_EQ(chat->messages_size(), 4);
  // An answer that was nothing but a call of a tool has no text.
  EXPECT_TRUE(ParseMessages(Json::parse(R"([{"role": "assistant", "content": null}])")).ok());
  EXPECT_FALSE(ParseMessages(Json::parse(R"([{"role": "user", "content": null}])")).ok());
  EXPECT_EQ(chat->messages(0).role(), "system");
  EXPECT_EQ(chat->messages(1).content(), "old key");
  EXPECT_EQ(chat->messages(3).content(), "part one, part two");
  const auto text = ParseMessages(Json("just a question"));
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->messages(0).role(), "user");
}

TEST(ChatRequestTest, WrongValuesAreNamed) {
  using Pair = std::pair<Json, Json>;
  const auto with = [](const std::string& member) {
    return R"({"messages": [{"role": "user", "content": "hi"}], )" + member + "}";
  };
  EXPECT_EQ(Refusal(Api::kChat, with(R"("temperature": "hot")")).first, "temperature");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("temperature": "hot")")).second, "invalid_value");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("logprobs": true, "top_logprobs": 21)")).first,
            "top_logprobs");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("tool_choice": "required")")).first, "tool_choice");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("seed": 9.3e18)")).first, "seed");
  EXPECT_TRUE(
      ParseGenerateCall(Api::kCompletions,
                        Json::parse(R"({"prompt": "a", "suffix": "", "tool_choice": "auto"})"))
          .ok());
  EXPECT_EQ(Refusal(Api::kChat, with(R"("n": 1.5)")).first, "n");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("n": -1)")).first, "n");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("stop": [1])")).first, "stop");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("logit_bias": {"x": 1})")).first, "logit_bias");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("top_logprobs": 2)")).first, "top_logprobs");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("stream_options": {"include_usage": true})")).first,
            "stream_options");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("response_format": "json")")).first, "response_format");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("response_format": {"type": "xml"})")),
            Pair("response_format.type", "unsupported_parameter"));
  EXPECT_EQ(Refusal(Api::kChat, with(R"("response_format": {"type": "json_schema"})")).first,
            "response_format.json_schema");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("guided_json": 7)")).first, "guided_json");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("guided_choice": ["a", 1])")).first, "guided_choice[1]");
  EXPECT_EQ(Refusal(Api::kChat, with(R"("structured_outputs": {"whitespace_pattern": "x"})")),
            Pair("structured_outputs.whitespace_pattern", "unsupported_parameter"));
  EXPECT_EQ(Refusal(Api::kChat, with(R"("grammar": "root ::= \"a\"", "guided_regex": "a")")).first,
            "grammar")
      << "one constraint at a time";
  EXPECT_EQ(Refusal(Api::kChat, with(R"("tools": [{"type": "function"}])")),
            Pair("tools", "unsupported_parameter"));
  EXPECT_EQ(Refusal(Api::kChat, "{}").first, "messages");
  EXPECT_EQ(Refusal(Api::kChat, R"({"messages": [{"role": "user"}]})").first,
            "messages[0].content");
  EXPECT_EQ(Refusal(Api::kChat, R"({"messages": [{"role": "user", "content": [
                                    {"type": "image_url", "image_url": {}}]}]})"),
            Pair("messages[0].content", "unsupported_parameter"));
  EXPECT_EQ(Refusal(Api::kCompletions, R"({"prompt": "a", "suffix": "b"})"),
            Pair("suffix", "unsupported_parameter"));
  EXPECT_EQ(Refusal(Api::kCompletions, R"({"prompt": "a", "num_beams": 4})").first, "num_beams");
}

TEST(ChatRequestTest, AConstraintIsUnderstoodInTheWordsOfEveryServer) {
  const auto constraint = [](const std::string& member) {
    const auto call =
        ParseGenerateCall(Api::kChat, Json::parse(R"({"messages": "hi", )" + member + "}"));
    EXPECT_TRUE(call.ok()) << call.status();
    return call->requests.at(0).sampling().constraint();
  };
  // Keys stay in their order.
  const std::string schema = R"({"type":"object","properties":{"z":{"type":"null"},"a":{}}})";
  EXPECT_EQ(
      constraint(
          R"("response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": )" +
          schema + ", \"strict\": true}}")
          .json_schema(),
      schema);
  EXPECT_EQ(constraint(R"("guided_json": )" + schema).json_schema(), schema);
  EXPECT_EQ(constraint(R"("json_schema": )" + schema).json_schema(), schema);
  EXPECT_EQ(constraint(R"("structured_outputs": {"json": )" + schema + "}").json_schema(), schema);
  EXPECT_EQ(constraint(R"("guided_json": "{\"type\": \"null\"}")").json_schema(),
            R"({"type": "null"})");
  EXPECT_TRUE(constraint(R"("response_format": {"type": "json_object"})").has_json_object());
  EXPECT_EQ(constraint(R"("guided_regex": "a+")").regex(), "a+");
  EXPECT_EQ(constraint(R"("structured_outputs": {"regex": "a+", "json": null})").regex(), "a+");
  EXPECT_THAT(constraint(R"("guided_choice": ["yes", "no"])").choices().texts(),
              ElementsAre("yes", "no"));
  EXPECT_EQ(constraint(R"("grammar": "root ::= [a-z]")").grammar(), "root ::= [a-z]");
  EXPECT_EQ(constraint(R"("response_format": {"type": "text"})").kind_case(),
            v1::Constraint::KIND_NOT_SET);
}

TEST(CompletionRequestTest, PromptsMayBeTextsOrTokensOneOrSeveral) {
  const auto parse = [](const char* prompt) {
    auto call = ParseGenerateCall(Api::kCompletions, Json{{"prompt", Json::parse(prompt)}});
    EXPECT_TRUE(call.ok()) << call.status();
    return *std::move(call);
  };
  EXPECT_EQ(parse(R"("a")").requests.at(0).text(), "a");
  EXPECT_EQ(parse(R"("a")").requests.at(0).stop().max_new_tokens(), 16U);
  EXPECT_EQ(parse(R"(["a", "b"])").requests.at(1).text(), "b");
  EXPECT_THAT(parse("[1, 2]").requests.at(0).token_ids().ids(), ElementsAre(1, 2));
  EXPECT_THAT(parse("[[1], [2, 3]]").requests.at(1).token_ids().ids(), ElementsAre(2, 3));
  EXPECT_EQ(Refusal(Api::kCompletions, R"({"prompt": []})").first, "prompt");
  EXPECT_EQ(Refusal(Api::kCompletions, R"({"prompt": [1, "a"]})").first, "prompt");
  EXPECT_EQ(Refusal(Api::kCompletions, R"({"prompt": [-1]})").first, "prompt");
}

v1::GenerateResponse Started() {
  v1::GenerateResponse response;
  response.mutable_started()->set_model("m");
  return response;
}

v1::GenerateResponse Delta(std::uint32_t choice, const std::string& text, float logprob = 0) {
  v1::GenerateResponse response;
  response.mutable_delta()->set_choice(choice);
  response.mutable_delta()->set_text(text);
  if (logprob != 0) {
    auto& chosen = *response.mutable_delta()->add_logprobs()->mutable_chosen();
    chosen.set_token(text);
    chosen.set_logprob(logprob);
  }
  return response;
}

v1::GenerateResponse Finished(std::uint32_t choices) {
  v1::GenerateResponse response;
  for (std::uint32_t i = 0; i < choices; ++i) {
    auto& result = *response.mutable_finished()->add_choices();
    result.set_choice(i);
    result.set_finish_reason(i == 0 ? v1::FINISH_REASON_STOP : v1::FINISH_REASON_LENGTH);
  }
  response.mutable_finished()->mutable_usage()->set_prompt_tokens(3);
  response.mutable_finished()->mutable_usage()->set_completion_tokens(4);
  return response;
}

TEST(AnswerTest, AWholeChatAnswerHasUsageAndFinishReasons) {
  const GenerateCall call = Chat(R"(, "n": 2)");
  WholeAnswer answer(call, {.id = "chatcmpl-1", .created = 5});
  for (const auto& response :
       {Started(), Delta(0, "a"), Delta(1, "x"), Delta(0, "b"), Finished(2)}) {
    answer.Add(0, response);
  }
  const Json json = answer.ToJson();
  EXPECT_EQ(json["object"], "chat.completion");
  EXPECT_EQ(json["model"], "m");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "ab");
  EXPECT_EQ(json["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(json["choices"][1]["message"]["content"], "x");
  EXPECT_EQ(json["choices"][1]["finish_reason"], "length");
  EXPECT_EQ(json["choices"][1]["index"], 1);
  EXPECT_EQ(json["usage"]["total_tokens"], 7);
}

TEST(AnswerTest, BestOfShowsTheMostProbableChoices) {
  auto call =
      ParseGenerateCall(Api::kCompletions, Json::parse(R"({"prompt": "p", "n": 1, "best_of": 2})"));
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ(call->requests[0].n(), 2U);
  WholeAnswer answer(*call, {});
  for (const auto& response :
       {Started(), Delta(0, "poor", -3), Delta(1, "rich", -1), Finished(2)}) {
    answer.Add(0, response);
  }
  const Json json = answer.ToJson();
  ASSERT_EQ(json["choices"].size(), 1U);
  EXPECT_EQ(json["choices"][0]["text"], "rich");
  EXPECT_EQ(json["choices"][0]["logprobs"], nullptr);
}

TEST(AnswerTest, AStreamTellsRoleTextEndAndUsage) {
  const GenerateCall call = Chat(R"(, "stream": true, "stream_options": {"include_usage": true})");
  StreamedAnswer answer(call, {.id = "chatcmpl-1", .created = 5});
  EXPECT_THAT(answer.Events(0, Started()), HasSubstr(R"("role":"assistant")"));
  const std::string text = answer.Events(0, Delta(0, "羊\n"));
  EXPECT_THAT(text, HasSubstr(R"("delta":{"content":"羊\n"})"));
  EXPECT_THAT(text,
              ::testing::AllOf(::testing::StartsWith("data: {"), ::testing::EndsWith("}\n\n")));
  EXPECT_THAT(answer.Events(0, Finished(1)), HasSubstr(R"("finish_reason":"stop")"));
  EXPECT_THAT(answer.LastEvents(), ::testing::AllOf(HasSubstr(R"("total_tokens":7)"),
                                                    ::testing::EndsWith("data: [DONE]\n\n")));
}

TEST(AnswerTest, TokensThatAreNotTextAreWrittenAsJsonAllTheSame) {
  auto call =
      ParseGenerateCall(Api::kCompletions, Json::parse(R"({"prompt": "p", "logprobs": 0})"));
  ASSERT_TRUE(call.ok());
  WholeAnswer answer(*call, {});
  answer.Add(0, Delta(0, "\xe7", -1));
  answer.Add(0, Finished(1));
  const Json json = Json::parse(Write(answer.ToJson()));
  EXPECT_EQ(json["choices"][0]["logprobs"]["tokens"][0], "bytes:\\xe7");
}

TEST(EmbedTest, TextsAndTokensAreUnderstood) {
  const auto parse = [](const char* input) {
    auto call = ParseEmbedCall(Json{{"input", Json::parse(input)}});
    EXPECT_TRUE(call.ok()) << call.status();
    return *std::move(call);
  };
  EXPECT_EQ(parse(R"("a")").request.texts(0), "a");
  EXPECT_EQ(parse(R"(["a", "b"])").request.texts_size(), 2);
  EXPECT_THAT(parse("[1, 2]").token_inputs, ElementsAre(ElementsAre(1, 2)));
  EXPECT_THAT(parse("[[1], [2]]").token_inputs, ElementsAre(ElementsAre(1), ElementsAre(2)));
  EXPECT_FALSE(ParseEmbedCall(Json::parse(R"({"input": {}})")).ok());
  EXPECT_FALSE(ParseEmbedCall(Json::parse(R"({"input": "a", "dimensions": 0})")).ok());
  EXPECT_FALSE(ParseEmbedCall(Json::parse(R"({"input": "a", "encoding_format": "int8"})")).ok());
}

TEST(EmbedTest, FewerDimensionsAreOfUnitLengthAgainAndBase64IsLittleEndianFloats) {
  v1::EmbedResponse response;
  auto& values = *response.add_embeddings()->mutable_values();
  for (const float value : {0.6F, 0.0F, 0.8F}) {
    values.Add(value);
  }
  EmbedCall call;
  call.dimensions = 1;
  auto answer = EmbedAnswer(call, response);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ((*answer)["data"][0]["embedding"], Json::array({1.0}));
  call.encoding = VectorEncoding::kBase64;
  answer = EmbedAnswer(call, response);
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ((*answer)["data"][0]["embedding"], "AACAPw==");  // 1.0F
  call.dimensions = 4;
  EXPECT_EQ(EmbedAnswer(call, response).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(TokenizeTest, BothRequestShapesAreUnderstood) {
  const auto vllm = ParseTokenizeCall(Json::parse(R"({"model": "m", "prompt": "a"})"));
  ASSERT_TRUE(vllm.ok());
  EXPECT_EQ(vllm->text(), "a");
  EXPECT_TRUE(vllm->add_bos());
  const auto llama = ParseTokenizeCall(Json::parse(R"({"content": "b"})"));
  ASSERT_TRUE(llama.ok());
  EXPECT_EQ(llama->text(), "b");
  EXPECT_FALSE(llama->add_bos());
  EXPECT_FALSE(ParseTokenizeCall(Json::object()).ok());
}

TEST(ModelsTest, TheContextIsUnderEveryKeyThatClientsRead) {
  v1::Model model;
  model.set_name("m");
  model.set_context_tokens(2048);
  model.set_hidden_size(64);
  const Json json = ModelJson(model, 7);
  for (const char* key : {"max_model_len", "context_window", "context_length"}) {
    EXPECT_EQ(json[key], 2048) << key;
  }
  EXPECT_EQ(json["meta"]["n_ctx"], 2048);
  EXPECT_EQ(json["meta"]["n_embd"], 64);
}

TEST(ErrorTest, FieldsOfTheGrpcRequestHaveTheirHttpNames) {
  const HttpError error = ToHttpError(InvalidField("stop.max_new_tokens", "is 0"));
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.body["error"]["param"], "max_tokens");
  EXPECT_EQ(error.body["error"]["message"], "max_tokens: is 0");
  EXPECT_EQ(error.body["error"]["type"], "invalid_request_error");
  EXPECT_EQ(ToHttpError(InvalidField("chat.messages[1].role", "x")).body["error"]["param"],
            "messages[1].role");
  EXPECT_EQ(ToHttpError(InvalidField("stop.stop_strings[2]", "x")).body["error"]["param"],
            "stop[2]");
}

TEST(ErrorTest, EveryStatusHasItsHttpCode) {
  const HttpError full =
      ToHttpError(WithRetryAfter(WithReason(absl::ResourceExhaustedError("full"), "QUEUE_FULL"),
                                 std::chrono::milliseconds(1500)));
  EXPECT_EQ(full.status, 429);
  EXPECT_EQ(full.retry_after_seconds, 2);
  EXPECT_EQ(full.body["error"]["code"], "rate_limit_exceeded");
  EXPECT_EQ(ToHttpError(absl::UnavailableError("x")).status, 503);
  EXPECT_EQ(ToHttpError(absl::NotFoundError("x")).status, 404);
  EXPECT_EQ(ToHttpError(absl::DeadlineExceededError("x")).status, 504);
  EXPECT_EQ(ToHttpError(absl::UnauthenticatedError("x")).status, 401);
  EXPECT_EQ(ToHttpError(absl::PermissionDeniedError("x")).status, 403);
  EXPECT_EQ(ToHttpError(absl::UnimplementedError("x")).status, 501);
  EXPECT_EQ(ToHttpError(absl::InternalError("x")).status, 500);
}

}  // namespace
}  // namespace yangtuo::gateway::openai
