#include "services/tokenizer/tokenizer_service.h"

#include <future>
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <thread>

#include "services/common/status.h"
#include "tests/services/tokenizer/small_tokenizer.h"

namespace yangtuo {
namespace {

namespace v1 = internal::v1;
using testing::ElementsAre;
using testing::HasSubstr;

class TokenizerServiceTest : public testing::Test {
 protected:
  TokenizerServiceTest() {
    EXPECT_TRUE(registry_.Add("small", LoadSmallTokenizer("llama-2")).ok());
  }
  ~TokenizerServiceTest() override {
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now());
    }
  }

  // A stub to a server with the tokenizers added so far.
  v1::TokenizerService::Stub& Stub() {
    if (server_ == nullptr) {
      service_ = std::make_unique<TokenizerService>(registry_, metrics_, limits_);
      grpc::ServerBuilder builder;
      builder.RegisterService(service_.get());
      builder.SetMaxReceiveMessageSize(64 << 20);
      server_ = builder.BuildAndStart();
      grpc::ChannelArguments arguments;
      arguments.SetMaxReceiveMessageSize(64 << 20);
      stub_ = v1::TokenizerService::NewStub(server_->InProcessChannel(arguments));
    }
    return *stub_;
  }

  static void SetDeadline(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  }
  absl::Status Encode(const v1::EncodeRequest& request, v1::EncodeResponse& response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return FromGrpc(Stub().Encode(&context, request, &response));
  }
  absl::Status Decode(const v1::DecodeRequest& request, v1::DecodeResponse& response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return FromGrpc(Stub().Decode(&context, request, &response));
  }
  absl::Status RenderChat(const v1::RenderChatRequest& request, v1::RenderChatResponse& response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return FromGrpc(Stub().RenderChat(&context, request, &response));
  }
  v1::GetTokenizerResponse GetTokenizers() {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::GetTokenizerResponse response;
    EXPECT_TRUE(Stub().GetTokenizer(&context, {}, &response).ok());
    return response;
  }
  [[nodiscard]] std::uint32_t Id(std::string_view literal) const {
    return SmallId(*registry_.all().front().tokenizer, literal);
  }

  TokenizerServiceLimits limits_;
  Metrics metrics_;
  TokenizerRegistry registry_;
  std::unique_ptr<TokenizerService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::TokenizerService::Stub> stub_;
};

TEST_F(TokenizerServiceTest, EncodesManyTextsWithAndWithoutSpecialTokens) {
  v1::EncodeRequest request;
  request.add_texts("a");
  request.add_texts("</s>a");
  request.set_add_bos(true);
  v1::EncodeResponse response;

  request.set_parse_special(true);
  ASSERT_TRUE(Encode(request, response).ok());
  ASSERT_EQ(response.texts_size(), 2);
  EXPECT_THAT(response.texts(0).ids(), ElementsAre(1, Id("▁a")));
  EXPECT_THAT(response.texts(1).ids(), ElementsAre(1, 2, Id("▁a")));

  request.set_parse_special(false);
  ASSERT_TRUE(Encode(request, response).ok());
  EXPECT_THAT(response.texts(1).ids(), testing::Not(testing::Contains(2)));
}

TEST_F(TokenizerServiceTest, EncodesAndDecodesBytesThatAreNotUtf8) {
  v1::EncodeRequest request;
  request.add_texts("a\xFF");
  v1::EncodeResponse response;
  ASSERT_TRUE(Encode(request, response).ok());

  v1::DecodeRequest decode;
  *decode.mutable_ids() = response.texts(0).ids();
  decode.set_want_pieces(true);
  v1::DecodeResponse decoded;
  ASSERT_TRUE(Decode(decode, decoded).ok());
  EXPECT_EQ(decoded.text(), "a\xEF\xBF\xBD");
  EXPECT_EQ(decoded.pieces(0), " a");
  EXPECT_EQ(decoded.pieces_size(), decode.ids_size());
}

TEST_F(TokenizerServiceTest, RefusesWhatExceedsALimitAndNamesTheField) {
  limits_.max_text_bytes = 10;
  limits_.max_decode_ids = 3;
  v1::EncodeRequest request;
  v1::EncodeResponse response;
  EXPECT_THAT(Encode(request, response).ToString(), HasSubstr("expected 1 to 256, found 0"));
  for (int i = 0; i < 257; ++i) {
    request.add_texts("");
  }
  EXPECT_THAT(Encode(request, response).ToString(), HasSubstr("found 257"));
  request.clear_texts();
  request.add_texts("12345678901");
  const absl::Status too_long = Encode(request, response);
  EXPECT_EQ(too_long.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(too_long.ToString(), HasSubstr("expected 0 to 10, found 11"));

  v1::DecodeRequest decode;
  decode.mutable_ids()->Resize(4, 1);
  v1::DecodeResponse decoded;
  EXPECT_EQ(Decode(decode, decoded).code(), absl::StatusCode::kInvalidArgument);
  decode.mutable_ids()->Resize(1, 1);
  decode.set_ids(0, 4294967295U);
  EXPECT_THAT(Decode(decode, decoded).ToString(), HasSubstr("token id 4294967295 is outside"));
}

TEST_F(TokenizerServiceTest, RefusesATextThatCannotFitBeforeItIsEncoded) {
  const std::size_t longest =
      registry_.all().front().tokenizer->vocabulary().longest_token_bytes().value();
  v1::EncodeRequest request;
  request.add_texts(std::string(10 * longest, 'a'));
  request.set_max_tokens(10);
  v1::EncodeResponse response;
  EXPECT_TRUE(Encode(request, response).ok()) << "it may fit, as far as is known before";
  request.mutable_texts(0)->push_back('a');
  const absl::Status refused = Encode(request, response);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReasonOf(refused), "CONTEXT_LENGTH_EXCEEDED");
  request.set_max_tokens(0);
  EXPECT_TRUE(Encode(request, response).ok());
  v1::RenderChatRequest chat;
  chat.set_max_tokens(10);
  v1::RenderMessage& message = *chat.add_messages();
  message.set_role("user");
  message.set_content(std::string(10 * longest + 1, 'a'));
  v1::RenderChatResponse rendered;
  EXPECT_EQ(ReasonOf(RenderChat(chat, rendered)), "CONTEXT_LENGTH_EXCEEDED");
}

TEST_F(TokenizerServiceTest, SaysThatItDrains) {
  EXPECT_FALSE(GetTokenizers().draining());
  service_->Drain();
  EXPECT_TRUE(GetTokenizers().draining());
}

TEST_F(TokenizerServiceTest, FindsTokenizersByNameAndByDigest) {
  ASSERT_TRUE(registry_.Add("other", LoadSmallTokenizer()).ok());
  v1::EncodeRequest request;
  request.add_texts("a");
  v1::EncodeResponse response;

  EXPECT_EQ(Encode(request, response).code(), absl::StatusCode::kInvalidArgument);
  request.set_tokenizer("other");
  EXPECT_TRUE(Encode(request, response).ok());
  request.set_tokenizer(registry_.all().front().tokenizer->vocabulary().digest());
  EXPECT_TRUE(Encode(request, response).ok());
  request.set_tokenizer("absent");
  const absl::Status absent = Encode(request, response);
  EXPECT_EQ(absent.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonOf(absent), "TOKENIZER_NOT_FOUND");
  EXPECT_THAT(absent.ToString(), HasSubstr("there are: small, other"));
}

TEST_F(TokenizerServiceTest, DescribesItsTokenizers) {
  const v1::GetTokenizerResponse all = GetTokenizers();

  ASSERT_EQ(all.tokenizers_size(), 1);
  const v1::TokenizerInfo& info = all.tokenizers(0);
  EXPECT_EQ(info.name(), "small");
  EXPECT_EQ(info.digest().size(), 64U);
  EXPECT_EQ(info.vocabulary_size(), 271U);
  EXPECT_EQ(info.bos_id(), 1U);
  EXPECT_EQ(info.eos_id(), 2U);
  EXPECT_FALSE(info.has_pad_id());
  EXPECT_EQ(info.chat_template(), "llama-2");
  EXPECT_THAT(info.chat_templates(), testing::Contains("alpaca-2-long"));
}

TEST_F(TokenizerServiceTest, RendersChatsWithTheTokenizersOwnTemplateOrANamedOne) {
  v1::RenderChatRequest request;
  v1::RenderMessage& message = *request.add_messages();
  message.set_role("user");
  message.set_content("</s>ab");
  v1::RenderChatResponse response;

  ASSERT_TRUE(RenderChat(request, response).ok());
  EXPECT_EQ(response.template_(), "llama-2");
  EXPECT_EQ(response.stop_strings_size(), 0);
  EXPECT_THAT(response.ids(), testing::Not(testing::Contains(2)));
  EXPECT_EQ(response.ids(0), 1U);
  request.set_template_("alpaca");
  ASSERT_TRUE(RenderChat(request, response).ok());
  EXPECT_THAT(response.stop_strings(), ElementsAre("### Instruction:"));
  request.set_template_("chatml");
  EXPECT_THAT(RenderChat(request, response).ToString(), HasSubstr("alpaca-gradio"));
  request.clear_template_();
  message.set_role("tool");
  EXPECT_THAT(RenderChat(request, response).ToString(), HasSubstr("messages[0]"));
}

TEST_F(TokenizerServiceTest, SaysThatACompletionModelHasNoTemplate) {
  ASSERT_TRUE(registry_.Add("plain", LoadSmallTokenizer()).ok());
  v1::RenderChatRequest request;
  request.set_tokenizer("plain");
  request.add_messages()->set_role("user");
  v1::RenderChatResponse response;

  const absl::Status status = RenderChat(request, response);

  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonOf(status), "NO_CHAT_TEMPLATE");
}

TEST_F(TokenizerServiceTest, EncodesLargeTextsBesideSmallOnes) {
  limits_.large = 1000;
  const std::string large(50000, 'a');
  std::vector<std::future<void>> calls;
  for (int i = 0; i < 8; ++i) {
    calls.push_back(std::async(std::launch::async, [&, i] {
      v1::EncodeRequest request;
      request.add_texts(i % 2 == 0 ? large : "a");
      v1::EncodeResponse response;
      ASSERT_TRUE(Encode(request, response).ok());
      EXPECT_EQ(response.texts(0).ids_size(), i % 2 == 0 ? 50000 : 1);
    }));
    if (i == 0) {
      calls.back().get();  // the server is made by the first call
      calls.pop_back();
    }
  }
  for (std::future<void>& call : calls) {
    call.get();
  }
}

TEST_F(TokenizerServiceTest, RefusesLargeTextsWhenTooManyWait) {
  limits_.large = 10;
  limits_.max_waiting_large = 0;
  v1::EncodeRequest request;
  request.add_texts("12345678901");
  v1::EncodeResponse response;

  const absl::Status status = Encode(request, response);

  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(status), "TOKENIZER_OVERLOADED");
}

TEST_F(TokenizerServiceTest, CountsCallsByMethodAndCode) {
  v1::EncodeRequest request;
  v1::EncodeResponse response;
  EXPECT_FALSE(Encode(request, response).ok());
  request.add_texts("ab");
  EXPECT_TRUE(Encode(request, response).ok());

  const std::string exposed = metrics_.Expose();

  EXPECT_THAT(exposed, HasSubstr("{code=\"OK\",method=\"Encode\"} 1"));
  EXPECT_THAT(exposed, HasSubstr("{code=\"INVALID_ARGUMENT\",method=\"Encode\"} 1"));
  EXPECT_THAT(exposed, HasSubstr("yangtuo_tokenizer_encode_seconds_count 1"));
}

// DecodeStream over the wire.
class DecodeStreamTest : public TokenizerServiceTest {
 protected:
  void Open() {
    SetDeadline(context_);
    call_ = Stub().DecodeStream(&context_);
  }
  v1::DecodeStreamResponse Exchange(std::uint64_t stream, const std::vector<std::uint32_t>& ids,
                                    bool end = false) {
    v1::DecodeStreamRequest request;
    v1::DecodeStreamInput& input = *request.add_inputs();
    input.set_stream_id(stream);
    input.mutable_ids()->Add(ids.begin(), ids.end());
    input.set_end(end);
    v1::DecodeStreamResponse response;
    EXPECT_TRUE(call_->Write(request));
    EXPECT_TRUE(call_->Read(&response));
    return response;
  }
  // Blocks until the server ended the call.
  grpc::Status AwaitEnd() {
    v1::DecodeStreamResponse response;
    EXPECT_FALSE(call_->Read(&response));
    return call_->Finish();
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::DecodeStreamRequest, v1::DecodeStreamResponse>>
      call_;
};

TEST_F(DecodeStreamTest, AnswersListAfterListUntilTheClientIsDone) {
  Open();
  EXPECT_EQ(Exchange(1, {Id("▁a")}).outputs(0).text(), "a");
  EXPECT_EQ(Exchange(2, {Id("<0xE4>")}).outputs(0).text(), "");
  EXPECT_EQ(Exchange(1, {Id("▁a")}, true).outputs(0).text(), " a");
  call_->WritesDone();
  EXPECT_TRUE(AwaitEnd().ok());
}

TEST_F(DecodeStreamTest, AnswersListsThatWereSentWithoutWaiting) {
  Open();
  constexpr int kLists = 2000;
  std::thread writer([this] {
    for (int i = 0; i < kLists; ++i) {
      v1::DecodeStreamRequest request;
      for (std::uint64_t stream = 0; stream < 10; ++stream) {
        v1::DecodeStreamInput& input = *request.add_inputs();
        input.set_stream_id(stream);
        input.add_ids(Id("ab"));
      }
      ASSERT_TRUE(call_->Write(request));
    }
    call_->WritesDone();
  });
  int num_lists = 0;
  v1::DecodeStreamResponse response;
  while (call_->Read(&response)) {
    ++num_lists;
    ASSERT_EQ(response.outputs_size(), 10);
    ASSERT_EQ(response.outputs(3).ids_consumed(), static_cast<std::uint32_t>(num_lists));
  }
  writer.join();
  EXPECT_EQ(num_lists, kLists);
  EXPECT_TRUE(call_->Finish().ok());
}

TEST_F(DecodeStreamTest, ForgetsTheStreamsOfAClientThatVanishes) {
  Open();
  Exchange(1, {Id("b")});
  context_.TryCancel();
  EXPECT_EQ(AwaitEnd().error_code(), grpc::StatusCode::CANCELLED);
  server_->Shutdown();  // returns once the service's side has ended, too
  EXPECT_THAT(metrics_.Expose(), HasSubstr("yangtuo_tokenizer_open_streams 0"));
}

TEST_F(DecodeStreamTest, EndsAnIdleCallWhenTheServiceDrains) {
  Open();
  Exchange(1, {Id("b")}, true);
  service_->Drain();
  EXPECT_EQ(AwaitEnd().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(DecodeStreamTest, LetsOpenStreamsEndBeforeADrainEndsTheCall) {
  Open();
  Exchange(1, {Id("b")});
  Exchange(2, {Id("b")});
  service_->Drain();
  EXPECT_EQ(Exchange(1, {Id("ab")}, true).outputs(0).text(), "ab");
  EXPECT_EQ(Exchange(2, {Id("ab")}, true).outputs(0).text(), "ab");
  EXPECT_EQ(AwaitEnd().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(DecodeStreamTest, RefusesNewCallsWhileItDrains) {
  Stub();
  service_->Drain();
  Open();
  EXPECT_EQ(AwaitEnd().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace yangtuo
