#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/gateway_harness.h"

namespace yangtuo::gateway {
namespace {

using ::testing::ElementsAre;
using testing::FakeTokenizer;
using testing::FakeWorker;
using ::testing::HasSubstr;

TEST(GenerateTest, StreamsStartedThenDeltasThenFinished) {
  FakeWorker worker(Says("白日依山尽"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("abc");
  request.set_request_id("my-id");
  const Answer answer = cluster.Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  ASSERT_GE(answer.responses.size(), 3U);
  EXPECT_EQ(answer.started().request_id(), "my-id");
  EXPECT_EQ(answer.started().model(), "fake-model");
  EXPECT_EQ(answer.started().prompt_tokens(), 4U);  // BOS, a, b, c
  EXPECT_EQ(answer.texts.at(0), "白日依山尽");
  EXPECT_EQ(answer.ids.at(0), FakeTokenizer::Ids("白日依山尽"));
  for (std::size_t i = 1; i + 1 < answer.responses.size(); ++i) {
    EXPECT_FALSE(answer.responses[i].delta().text().empty());
  }
  const v1::Finished& finished = answer.finished();
  ASSERT_EQ(finished.choices_size(), 1);
  EXPECT_EQ(finished.choices(0).finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finished.choices(0).stop_token_id(), FakeTokenizer::kEos);
  EXPECT_EQ(finished.usage().prompt_tokens(), 4U);
  EXPECT_EQ(finished.usage().completion_tokens(), 16U);  // 15 bytes and the end
  EXPECT_GT(finished.timings().total().nanos(), 0);
  EXPECT_EQ(worker.last_request_id(), "my-id");
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(GenerateTest, SendsThePromptParametersAndASeedToTheWorker) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("ab");
  request.mutable_sampling()->set_temperature(0.5F);
  request.mutable_stop()->add_stop_strings("never");
  request.set_priority(7);
  const Answer answer = cluster.Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  const internal::v1::GenerateRequest sent = worker.requests().at(0);
  EXPECT_THAT(sent.prompt_ids(), ElementsAre(1, 3 + 'a', 3 + 'b'));
  EXPECT_EQ(sent.sampling().temperature(), 0.5F);
  EXPECT_EQ(sent.sampling().seed(), answer.started().seed());
  EXPECT_EQ(sent.stop().max_new_tokens(), 509U);  // what is left of the context
  EXPECT_TRUE(sent.stop().stop_strings().empty());
  EXPECT_EQ(sent.priority(), 7);
}

TEST(GenerateTest, RendersChatsAndUsesTheTemplatesStopStrings) {
  FakeWorker worker(Says("hello\nuser: not mine"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request;
  auto& message = *request.mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content("hi");
  const Answer answer = cluster.Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), "hello");
  EXPECT_EQ(answer.finished().choices(0).stop_string(), "\nuser:");
  EXPECT_EQ(answer.started().prompt_tokens(), 10U);
}

TEST(GenerateTest, StopsAtAStopStringAndCancelsTheWorker) {
  testing::FakeWorkerScript script = Says("one END two");
  script.hold_at = 8;  // right after END: only a cancellation ends it
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("x");
  request.mutable_stop()->add_stop_strings(" END");
  const Answer answer = cluster.Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), "one");
  EXPECT_EQ(answer.finished().choices(0).stop_string(), " END");
  // The token after the stop string may have come with its last one.
  EXPECT_GE(answer.finished().choices(0).completion_tokens(), 7U);
  EXPECT_LE(answer.finished().choices(0).completion_tokens(), 8U);
  EXPECT_TRUE(Eventually([&] { return worker.running() == 0; }));
}

TEST(GenerateTest, KeepsTheLengthLimitAndSaysSo) {
  FakeWorker worker(Says("0123456789"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("x");
  request.mutable_stop()->set_max_new_tokens(4);
  const Answer answer = cluster.Ask(request);
  EXPECT_EQ(answer.texts.at(0), "0123");
  EXPECT_EQ(answer.finished().choices(0).finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.finished().usage().completion_tokens(), 4U);
}

TEST(GenerateTest, AnswersEveryChoiceFromItsOwnStream) {
  testing::FakeWorkerScript script;
  script.answer = [](const internal::v1::GenerateRequest& request) {
    return FakeTokenizer::Ids(std::string("choice ").append(std::to_string(request.choice())));
  };
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("x");
  request.set_n(3);
  const Answer answer = cluster.Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(answer.texts.at(i), std::string("choice ").append(std::to_string(i)));
    EXPECT_EQ(answer.finished().choices(static_cast<int>(i)).choice(), i);
  }
  EXPECT_EQ(answer.finished().usage().completion_tokens(), 27U);
}

TEST(GenerateTest, EchoesThePromptWithItsLogprobsFirst) {
  FakeWorker worker(Says("yz"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("ab");
  request.set_echo(true);
  request.mutable_sampling()->set_logprobs(2);
  const Answer answer = cluster.Ask(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), "abyz");
  EXPECT_THAT(answer.ids.at(0), ElementsAre(1, 3 + 'a', 3 + 'b', 3 + 'y', 3 + 'z'));
  std::vector<v1::PositionLogprobs> entries;
  for (const v1::GenerateResponse& response : answer.responses) {
    EXPECT_EQ(response.delta().logprobs_size(), response.delta().token_ids_size());
    entries.insert(entries.end(), response.delta().logprobs().begin(),
                   response.delta().logprobs().end());
  }
  ASSERT_EQ(entries.size(), 5U);
  EXPECT_EQ(entries[0].chosen().token_id(), 1U);
  EXPECT_TRUE(entries[0].chosen().no_logprob()) << "nothing precedes it";
  for (std::size_t i = 1; i < entries.size(); ++i) {
    EXPECT_EQ(entries[i].chosen().token(), std::string("?abyz").substr(i, 1)) << i;
    EXPECT_FALSE(entries[i].chosen().no_logprob());
    EXPECT_EQ(entries[i].top_size(), 2);
  }
}

TEST(GenerateTest, SendsIncompleteCharactersOnlyAtTheEndAndAsReplacement) {
  FakeWorker worker(Says("a\xE7\x99"));  // a character that never ends
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  EXPECT_EQ(cluster.Ask(TextRequest("x")).texts.at(0), "a\xEF\xBF\xBD");
}

TEST(RefusalTest, UnknownModelNamesTheModelsThereAre) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("x");
  request.set_model("gpt-5");
  const Answer answer = cluster.Ask(request);
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(answer.status), "MODEL_NOT_FOUND");
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("fake-model"));
  EXPECT_TRUE(answer.responses.empty());
}

TEST(RefusalTest, ModelMayBeEmptyOnlyWhenThereIsOne) {
  FakeWorker one(Says("x"));
  FakeWorker two(Says("x"));
  two.SetStatus([](auto& status) { status.set_model("second"); });
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  const Answer answer = cluster.Ask(TextRequest("x"));
  EXPECT_EQ(ReasonOf(answer.status), "MODEL_REQUIRED");
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("fake-model, second"));
}

TEST(RefusalTest, PromptThatIsTooLongTellsTheNumbers) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  const Answer answer = cluster.Ask(TextRequest(std::string(600, 'a')));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(answer.status), "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("601"));
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(RefusalTest, ChatWithACompletionModelSaysWhatToDo) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer({.chat_template = ""});
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request;
  request.mutable_chat()->add_messages()->set_role("user");
  Answer answer = cluster.Ask(request);
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("plain, other"));
  request.mutable_chat()->set_template_("other");
  EXPECT_TRUE(cluster.Ask(request).status.ok());
  request.mutable_chat()->set_template_("third");
  EXPECT_EQ(cluster.Ask(request).status.code(), absl::StatusCode::kInvalidArgument);
}

TEST(UnaryCallsTest, TokenizeAndDetokenizeGoThroughTheTokenizer) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::TokenizeRequest tokenize;
  tokenize.set_text("ab");
  v1::TokenizeResponse ids;
  grpc::ClientContext first;
  ASSERT_TRUE(cluster.stub().Tokenize(&first, tokenize, &ids).ok());
  EXPECT_THAT(ids.token_ids(), ElementsAre(1, 3 + 'a', 3 + 'b'));
  EXPECT_EQ(ids.model(), "fake-model");
  v1::DetokenizeRequest detokenize;
  detokenize.mutable_token_ids()->CopyFrom(ids.token_ids());
  detokenize.add_token_ids(3 + 0xFF);
  v1::DetokenizeResponse text;
  grpc::ClientContext second;
  ASSERT_TRUE(cluster.stub().Detokenize(&second, detokenize, &text).ok());
  EXPECT_EQ(text.text(), "ab\xEF\xBF\xBD");
}

TEST(UnaryCallsTest, EmbedAnswersInTheOrderOfTheTexts) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::EmbedRequest request;
  for (std::size_t i = 0; i < 40; ++i) {
    request.add_texts(std::string(1 + i, 'a'));
  }
  v1::EmbedResponse response;
  grpc::ClientContext context;
  const grpc::Status status = cluster.stub().Embed(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.embeddings_size(), 40);
  for (int i = 0; i < 40; ++i) {
    EXPECT_THAT(response.embeddings(i).values(), ElementsAre(static_cast<float>(i + 2)));
  }
  EXPECT_EQ(response.usage().prompt_tokens(), 40U + 820U);
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(UnaryCallsTest, EmbedTakesMoreTextsThanOneCallOfTheTokenizer) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::EmbedRequest request;
  for (std::size_t i = 0; i < 600; ++i) {
    request.add_texts(std::string(1 + i % 7, 'a'));
  }
  v1::EmbedResponse response;
  grpc::ClientContext context;
  const grpc::Status status = cluster.stub().Embed(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.embeddings_size(), 600);
  for (int i = 0; i < 600; ++i) {
    EXPECT_THAT(response.embeddings(i).values(), ElementsAre(static_cast<float>(i % 7 + 2)));
  }
}

// Texts are embedded side by side; the end of one request is no end of what is on its way.
TEST(UnaryCallsTest, EmbedEndsOnceWhenSomeTextsAreRefused) {
  testing::FakeWorkerScript script = Says("x");
  script.embed = [](const internal::v1::EmbedRequest& request) {
    return request.ids_size() % 4 == 0
               ? grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "queue full")
               : grpc::Status::OK;
  };
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::EmbedRequest request;
  for (std::size_t i = 0; i < 64; ++i) {
    request.add_texts(std::string(1 + i % 4, 'a'));
  }
  for (int i = 0; i < 100; ++i) {
    v1::EmbedResponse response;
    grpc::ClientContext context;
    EXPECT_EQ(cluster.stub().Embed(&context, request, &response).error_code(),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  EXPECT_TRUE(Eventually([&] { return cluster.Idle() && worker.running() == 0; }));
}

TEST(UnaryCallsTest, EmbedCutsLongTextsOnlyWhenAsked) {
  FakeWorker worker(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::EmbedRequest request;
  request.add_texts(std::string(600, 'a'));
  v1::EmbedResponse response;
  grpc::ClientContext first;
  const grpc::Status refused = cluster.stub().Embed(&first, request, &response);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.error_message(), HasSubstr("texts[0]"));
  request.set_truncate(true);
  grpc::ClientContext second;
  ASSERT_TRUE(cluster.stub().Embed(&second, request, &response).ok());
  EXPECT_THAT(response.embeddings(0).values(), ElementsAre(512.0F));
}

TEST(UnaryCallsTest, ModelsAreListedWithTheirTemplatesAndGroups) {
  FakeWorker one(Says("x"));
  FakeWorker two(Says("x"));
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  v1::ListModelsResponse models;
  grpc::ClientContext first;
  ASSERT_TRUE(cluster.stub().ListModels(&first, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).ready_groups(), 2U);
  EXPECT_EQ(models.models(0).chat_template(), "plain");
  EXPECT_THAT(models.models(0).chat_templates(), ElementsAre("plain", "other"));
  v1::GetModelRequest request;
  request.set_model("other");
  v1::GetModelResponse response;
  grpc::ClientContext second;
  EXPECT_EQ(cluster.stub().GetModel(&second, request, &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace yangtuo::gateway
