#include "services/tokenizer/tokenizer_service.h"

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/chat_template.h"
#include "services/common/log.h"
#include "services/common/request_context.h"
#include "services/common/status.h"
#include "services/tokenizer/decode_streams.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;

constexpr int kMaxTexts = 256;
constexpr std::size_t kMaxTextBytes = std::size_t{16} << 20;
constexpr int kMaxMessages = 4096;

double SecondsSince(TimePoint start) { return ToSeconds(std::chrono::steady_clock::now() - start); }

absl::Status CheckTextSizes(const pb::EncodeRequest& request) {
  if (request.texts_size() < 1 || request.texts_size() > kMaxTexts) {
    return InvalidField("texts", absl::StrFormat("has %d texts; 1 to %d are allowed",
                                                 request.texts_size(), kMaxTexts));
  }
  std::size_t bytes = 0;
  for (const std::string& text : request.texts()) {
    bytes += text.size();
  }
  if (bytes > kMaxTextBytes) {
    return InvalidField("texts", absl::StrFormat("have %d bytes together; at most %d are allowed",
                                                 bytes, kMaxTextBytes));
  }
  return absl::OkStatus();
}

// Answers every list of inputs before it reads the next, so at most one message is held.
class DecodeStreamReactor final
    : public grpc::ServerBidiReactor<pb::DecodeStreamRequest, pb::DecodeStreamResponse> {
 public:
  DecodeStreamReactor(const TokenizerSet& tokenizers, TokenizerMetrics& metrics)
      : metrics_(metrics), streams_(tokenizers, metrics) {
    StartRead(&request_);
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::OK);
      return;
    }
    response_.Clear();
    streams_.Decode(request_, response_);
    StartWrite(&response_);
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::CANCELLED);
      return;
    }
    StartRead(&request_);
  }

  void OnDone() override {
    metrics_.CallEnded("DecodeStream", absl::OkStatus());
    delete this;
  }

  TokenizerMetrics& metrics_;
  DecodeStreams streams_;
  pb::DecodeStreamRequest request_;
  pb::DecodeStreamResponse response_;
};

}  // namespace

grpc::ServerUnaryReactor* TokenizerService::End(grpc::CallbackServerContext& context,
                                                const char* method, const absl::Status& status) {
  metrics_.CallEnded(method, status);
  Log(status.ok() ? LogLevel::kDebug : LogLevel::kInfo, "call ended",
      {{"request_id", RequestContext::FromServer(context).request_id},
       {"method", std::string(method)},
       {"code", absl::StatusCodeToString(status.code())}});
  grpc::ServerUnaryReactor* reactor = context.DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

grpc::ServerUnaryReactor* TokenizerService::Encode(grpc::CallbackServerContext* context,
                                                   const pb::EncodeRequest* request,
                                                   pb::EncodeResponse* response) {
  return End(*context, "Encode", EncodeTexts(*request, *response));
}

grpc::ServerUnaryReactor* TokenizerService::Decode(grpc::CallbackServerContext* context,
                                                   const pb::DecodeRequest* request,
                                                   pb::DecodeResponse* response) {
  return End(*context, "Decode", DecodeIds(*request, *response));
}

grpc::ServerBidiReactor<pb::DecodeStreamRequest, pb::DecodeStreamResponse>*
TokenizerService::DecodeStream(grpc::CallbackServerContext* /*context*/) {
  return new DecodeStreamReactor(tokenizers_, metrics_);
}

grpc::ServerUnaryReactor* TokenizerService::RenderChat(grpc::CallbackServerContext* context,
                                                       const pb::RenderChatRequest* request,
                                                       pb::RenderChatResponse* response) {
  return End(*context, "RenderChat", Render(*request, *response));
}

grpc::ServerUnaryReactor* TokenizerService::GetTokenizer(grpc::CallbackServerContext* context,
                                                         const pb::GetTokenizerRequest* request,
                                                         pb::GetTokenizerResponse* response) {
  return End(*context, "GetTokenizer", Describe(*request, *response));
}

absl::Status TokenizerService::EncodeTexts(const pb::EncodeRequest& request,
                                           pb::EncodeResponse& response) const {
  YANGTUO_RETURN_IF_ERROR(CheckTextSizes(request));
  YANGTUO_ASSIGN_OR_RETURN(const Tokenizer* tokenizer, tokenizers_.Find(request.tokenizer()));
  for (const std::string& text : request.texts()) {
    const TimePoint start = std::chrono::steady_clock::now();
    YANGTUO_ASSIGN_OR_RETURN(const std::vector<std::int32_t> ids,
                             tokenizer->Encode(text, {.add_bos = request.add_bos(),
                                                      .parse_special = request.parse_special()}));
    response.add_texts()->mutable_ids()->Assign(ids.begin(), ids.end());
    metrics_.Encoded(SecondsSince(start), ids.size());
  }
  return absl::OkStatus();
}

absl::Status TokenizerService::DecodeIds(const pb::DecodeRequest& request,
                                         pb::DecodeResponse& response) const {
  YANGTUO_ASSIGN_OR_RETURN(const Tokenizer* tokenizer, tokenizers_.Find(request.tokenizer()));
  const std::vector<std::int32_t> ids(request.ids().begin(), request.ids().end());
  YANGTUO_ASSIGN_OR_RETURN(*response.mutable_text(), tokenizer->Decode(ids));
  if (request.want_pieces()) {
    for (const std::int32_t id : ids) {
      response.add_pieces(tokenizer->vocabulary().piece(id).text);
    }
  }
  metrics_.Decoded(ids.size());
  return absl::OkStatus();
}

absl::Status TokenizerService::Render(const pb::RenderChatRequest& request,
                                      pb::RenderChatResponse& response) const {
  const TimePoint start = std::chrono::steady_clock::now();
  YANGTUO_ASSIGN_OR_RETURN(const Tokenizer* tokenizer, tokenizers_.Find(request.tokenizer()));
  const std::string& name =
      request.template_().empty() ? tokenizer->chat_template() : request.template_();
  if (name.empty()) {
    return WithReason(absl::FailedPreconditionError(
                          "this model has no chat template: it completes text. Send the prompt as "
                          "text, or name a template"),
                      "NO_CHAT_TEMPLATE");
  }
  YANGTUO_ASSIGN_OR_RETURN(const ChatTemplate chat_template, FindChatTemplate(name));
  if (request.messages_size() > kMaxMessages) {
    return InvalidField("messages", absl::StrFormat("has %d messages; at most %d are allowed",
                                                    request.messages_size(), kMaxMessages));
  }
  std::vector<ChatMessage> messages;
  std::size_t bytes = 0;
  for (const pb::RenderMessage& message : request.messages()) {
    bytes += message.content().size();
    messages.push_back({.role = message.role(), .content = message.content()});
  }
  if (bytes > kMaxTextBytes) {
    return InvalidField(
        "messages",
        absl::StrFormat("have %d bytes together; at most %d are allowed", bytes, kMaxTextBytes));
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<ChatSegment> segments,
                           yangtuo::RenderChat(chat_template, messages));
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<std::int32_t> ids,
                           EncodeSegments(*tokenizer, segments));
  response.mutable_ids()->Assign(ids.begin(), ids.end());
  response.set_template_(name);
  if (!chat_template.stop_string.empty()) {
    response.add_stop_strings(std::string(chat_template.stop_string));
  }
  metrics_.Encoded(SecondsSince(start), ids.size());
  return absl::OkStatus();
}

absl::Status TokenizerService::Describe(const pb::GetTokenizerRequest& request,
                                        pb::GetTokenizerResponse& response) const {
  const Tokenizer* wanted = nullptr;
  if (!request.tokenizer().empty()) {
    YANGTUO_ASSIGN_OR_RETURN(wanted, tokenizers_.Find(request.tokenizer()));
  }
  for (const auto& [name, tokenizer] : tokenizers_.all()) {
    if (wanted != nullptr && wanted != tokenizer.get()) {
      continue;
    }
    pb::TokenizerInfo& info = *response.add_tokenizers();
    info.set_name(name);
    info.set_digest(tokenizer->vocabulary().digest());
    info.set_vocabulary_size(static_cast<std::uint32_t>(tokenizer->vocabulary().size()));
    info.set_bos_id(static_cast<std::uint32_t>(tokenizer->bos_id()));
    info.set_eos_id(static_cast<std::uint32_t>(tokenizer->eos_id()));
    if (tokenizer->pad_id().has_value()) {
      info.set_pad_id(static_cast<std::uint32_t>(*tokenizer->pad_id()));
    }
    info.set_chat_template(tokenizer->chat_template());
    for (const std::string_view chat_template : ChatTemplateNames()) {
      info.add_chat_templates(std::string(chat_template));
    }
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
