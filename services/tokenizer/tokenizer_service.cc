#include "services/tokenizer/tokenizer_service.h"

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/chat_template.h"
#include "services/common/request_context.h"
#include "services/common/status.h"
#include "services/tokenizer/id_span.h"

namespace yangtuo {
namespace {

std::size_t NumBytes(const internal::v1::EncodeRequest& request) {
  std::size_t num_bytes = 0;
  for (const std::string& text : request.texts()) {
    num_bytes += text.size();
  }
  return num_bytes;
}

std::size_t NumBytes(const internal::v1::RenderChatRequest& request) {
  std::size_t num_bytes = 0;
  for (const internal::v1::RenderMessage& message : request.messages()) {
    num_bytes += message.content().size();
  }
  return num_bytes;
}

absl::Status CheckRange(const char* field, std::size_t min, std::size_t max, std::size_t found) {
  if (found >= min && found <= max) {
    return absl::OkStatus();
  }
  return InvalidField(field, absl::StrFormat("expected %d to %d, found %d", min, max, found));
}

// Refuses what certainly has more than `max_tokens`: encoding megabytes takes seconds.
absl::Status CheckLength(std::size_t num_bytes, std::uint32_t max_tokens,
                         const Tokenizer& tokenizer) {
  const std::optional<std::size_t> longest = tokenizer.vocabulary().longest_token_bytes();
  if (max_tokens == 0 || !longest.has_value() || num_bytes <= max_tokens * *longest) {
    return absl::OkStatus();
  }
  return WithReason(
      absl::InvalidArgumentError(absl::StrFormat(
          "the text has %d bytes, which are more than %d tokens however they are encoded (none "
          "stands for more than %d bytes), and %d are the model's context: shorten it",
          num_bytes, max_tokens, *longest, max_tokens)),
      "CONTEXT_LENGTH_EXCEEDED");
}

internal::v1::TokenizerInfo Describe(const NamedTokenizer& named) {
  const Tokenizer& tokenizer = *named.tokenizer;
  internal::v1::TokenizerInfo info;
  info.set_name(named.name);
  info.set_digest(tokenizer.vocabulary().digest());
  info.set_vocabulary_size(static_cast<std::uint32_t>(tokenizer.vocabulary().size()));
  info.set_bos_id(static_cast<std::uint32_t>(tokenizer.bos_id()));
  info.set_eos_id(static_cast<std::uint32_t>(tokenizer.eos_id()));
  if (tokenizer.pad_id().has_value()) {
    info.set_pad_id(static_cast<std::uint32_t>(*tokenizer.pad_id()));
  }
  info.set_chat_template(tokenizer.chat_template());
  for (const std::string_view name : ChatTemplateNames()) {
    info.add_chat_templates(std::string(name));
  }
  return info;
}

}  // namespace

TokenizerService::TokenizerService(const TokenizerRegistry& registry, Metrics& metrics,
                                   const TokenizerServiceLimits& limits, const Tracer* tracer)
    : registry_(registry),
      limits_(limits),
      tracer_(tracer),
      metrics_(metrics),
      large_requests_(limits.num_threads, limits.max_waiting_large) {}

grpc::ServerUnaryReactor* TokenizerService::Run(const char* method,
                                                grpc::CallbackServerContext* context,
                                                std::size_t size, Work work) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Span span = SpanOf(method, *context);
  const auto finish = [this, method, context, reactor, span](const absl::Status& status) {
    const grpc::Status answer = ToGrpc(status);
    metrics_.CountCall(method, answer, *context);
    span.End(status);
    reactor->Finish(answer);  // the call may be gone
  };
  if (size <= limits_.large) {
    finish(work(span));
    return reactor;
  }
  const TimePoint arrival = SteadyClock().Now();
  const bool accepted =
      large_requests_.Submit([context, finish, span, arrival, work = std::move(work)] {
        span.AddChild("queue", arrival, SteadyClock().Now(), {});
        finish(context->IsCancelled() ? absl::CancelledError("the caller is gone") : work(span));
      });
  if (!accepted) {
    finish(WithRetryAfter(
        WithReason(absl::ResourceExhaustedError(absl::StrFormat(
                       "%d large texts are waiting to be tokenized already; try again later",
                       limits_.max_waiting_large)),
                   "TOKENIZER_OVERLOADED"),
        std::chrono::seconds(1)));
  }
  return reactor;
}

Span TokenizerService::SpanOf(const char* method,
                              const grpc::CallbackServerContext& context) const {
  const RequestContext incoming = RequestContext::FromServer(context);
  // Gateways ask what there is once a second: those calls are part of no request, and no trace.
  if (tracer_ == nullptr || (incoming.traceparent.empty() && incoming.request_id.empty())) {
    return {};
  }
  Span span = tracer_->Serve(incoming, absl::StrCat(kTokenizerServiceName, "/", method));
  span.Set("rpc.system", std::string("grpc"));
  span.Set("yangtuo.request_id", incoming.request_id);
  return span;
}

void TokenizerService::CountEncoding(TimePoint begin, std::size_t num_tokens, const Span& span) {
  const TimePoint now = SteadyClock().Now();
  metrics_.CountEncoding(ToSeconds(now - begin), num_tokens);
  span.AddChild("tokenize", begin, now,
                {{"gen_ai.usage.input_tokens", static_cast<std::int64_t>(num_tokens)}});
}

grpc::ServerUnaryReactor* TokenizerService::Encode(grpc::CallbackServerContext* context,
                                                   const internal::v1::EncodeRequest* request,
                                                   internal::v1::EncodeResponse* response) {
  return Run("Encode", context, NumBytes(*request), [this, request, response](const Span& span) {
    return EncodeTexts(*request, *response, span);
  });
}

grpc::ServerUnaryReactor* TokenizerService::Decode(grpc::CallbackServerContext* context,
                                                   const internal::v1::DecodeRequest* request,
                                                   internal::v1::DecodeResponse* response) {
  return Run("Decode", context, static_cast<std::size_t>(request->ids_size()),
             [this, request, response](const Span&) { return DecodeIds(*request, *response); });
}

grpc::ServerBidiReactor<internal::v1::DecodeStreamRequest, internal::v1::DecodeStreamResponse>*
TokenizerService::DecodeStream(grpc::CallbackServerContext* context) {
  return yangtuo::DecodeStream::Start({.registry = registry_,
                                       .metrics = metrics_,
                                       .calls = decode_streams_,
                                       .max_streams = limits_.max_streams},
                                      *context);
}

grpc::ServerUnaryReactor* TokenizerService::RenderChat(
    grpc::CallbackServerContext* context, const internal::v1::RenderChatRequest* request,
    internal::v1::RenderChatResponse* response) {
  return Run("RenderChat", context, NumBytes(*request),
             [this, request, response](const Span& span) {
               return RenderMessages(*request, *response, span);
             });
}

grpc::ServerUnaryReactor* TokenizerService::GetTokenizer(
    grpc::CallbackServerContext* context, const internal::v1::GetTokenizerRequest* request,
    internal::v1::GetTokenizerResponse* response) {
  return Run("GetTokenizer", context, 0, [this, request, response](const Span&) -> absl::Status {
    response->set_draining(decode_streams_.draining());
    if (request->tokenizer().empty()) {
      for (const NamedTokenizer& named : registry_.all()) {
        *response->add_tokenizers() = Describe(named);
      }
      return absl::OkStatus();
    }
    YANGTUO_ASSIGN_OR_RETURN(const NamedTokenizer* named, registry_.Find(request->tokenizer()));
    *response->add_tokenizers() = Describe(*named);
    return absl::OkStatus();
  });
}

absl::Status TokenizerService::EncodeTexts(const internal::v1::EncodeRequest& request,
                                           internal::v1::EncodeResponse& response,
                                           const Span& span) {
  YANGTUO_ASSIGN_OR_RETURN(const NamedTokenizer* named, registry_.Find(request.tokenizer()));
  YANGTUO_RETURN_IF_ERROR(CheckRange("texts", 1, static_cast<std::size_t>(limits_.max_texts),
                                     static_cast<std::size_t>(request.texts_size())));
  YANGTUO_RETURN_IF_ERROR(
      CheckRange("bytes of texts", 0, limits_.max_text_bytes, NumBytes(request)));
  for (const std::string& text : request.texts()) {
    YANGTUO_RETURN_IF_ERROR(CheckLength(text.size(), request.max_tokens(), *named->tokenizer));
  }
  const TimePoint begin = SteadyClock().Now();
  std::size_t num_tokens = 0;
  for (const std::string& text : request.texts()) {
    YANGTUO_ASSIGN_OR_RETURN(
        const std::vector<std::int32_t> ids,
        named->tokenizer->Encode(
            text, {.add_bos = request.add_bos(), .parse_special = request.parse_special()}));
    num_tokens += ids.size();
    response.add_texts()->mutable_ids()->Add(ids.begin(), ids.end());
  }
  CountEncoding(begin, num_tokens, span);
  return absl::OkStatus();
}

absl::Status TokenizerService::DecodeIds(const internal::v1::DecodeRequest& request,
                                         internal::v1::DecodeResponse& response) {
  YANGTUO_ASSIGN_OR_RETURN(const NamedTokenizer* named, registry_.Find(request.tokenizer()));
  const std::span<const std::int32_t> ids = IdSpan(request.ids());
  YANGTUO_RETURN_IF_ERROR(
      CheckRange("ids", 0, static_cast<std::size_t>(limits_.max_decode_ids), ids.size()));
  YANGTUO_ASSIGN_OR_RETURN(*response.mutable_text(), named->tokenizer->Decode(ids));
  if (request.want_pieces()) {
    for (const std::int32_t id : ids) {
      response.add_pieces(named->tokenizer->vocabulary().piece(id).text);
    }
  }
  metrics_.CountDecoded(ids.size());
  return absl::OkStatus();
}

absl::Status TokenizerService::RenderMessages(const internal::v1::RenderChatRequest& request,
                                              internal::v1::RenderChatResponse& response,
                                              const Span& span) {
  YANGTUO_ASSIGN_OR_RETURN(const NamedTokenizer* named, registry_.Find(request.tokenizer()));
  YANGTUO_RETURN_IF_ERROR(CheckRange("messages", 1, static_cast<std::size_t>(limits_.max_messages),
                                     static_cast<std::size_t>(request.messages_size())));
  YANGTUO_RETURN_IF_ERROR(
      CheckRange("bytes of messages", 0, limits_.max_text_bytes, NumBytes(request)));
  YANGTUO_RETURN_IF_ERROR(CheckLength(NumBytes(request), request.max_tokens(), *named->tokenizer));
  const std::string& name =
      request.template_().empty() ? named->tokenizer->chat_template() : request.template_();
  if (name.empty()) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrFormat(
            "\"%s\" has no chat template of its own; choose one by name", named->name)),
        "NO_CHAT_TEMPLATE");
  }
  const absl::StatusOr<ChatTemplate> chat_template = FindChatTemplate(name);
  if (!chat_template.ok()) {
    return InvalidField("template", std::string(chat_template.status().message()));
  }
  std::vector<ChatMessage> messages;
  messages.reserve(static_cast<std::size_t>(request.messages_size()));
  for (const internal::v1::RenderMessage& message : request.messages()) {
    messages.push_back({.role = message.role(), .content = message.content()});
  }
  const auto segments = yangtuo::RenderChat(*chat_template, messages);
  if (!segments.ok()) {
    return InvalidField("messages", std::string(segments.status().message()));
  }
  const TimePoint begin = SteadyClock().Now();
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<std::int32_t> ids,
                           EncodeSegments(*named->tokenizer, *segments));
  CountEncoding(begin, ids.size(), span);
  response.mutable_ids()->Add(ids.begin(), ids.end());
  response.set_template_(name);
  if (!chat_template->stop_string.empty()) {
    response.add_stop_strings(std::string(chat_template->stop_string));
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
