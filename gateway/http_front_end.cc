#include "gateway/http_front_end.h"

#include <chrono>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "gateway/embed_flow.h"
#include "gateway/http_answer.h"
#include "gateway/openai/other_calls.h"
#include "gateway/text_calls.h"
#include "gateway/web/web_page.h"
#include "services/common/build_info.h"
#include "services/common/log.h"
#include "services/common/request_context.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

std::int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

constexpr char kModelPrefix[] = "/v1/models/";

// W3C trace context, https://www.w3.org/TR/trace-context/: anything else is not passed on, because
// gRPC metadata may hold printable ASCII only.
std::string TraceParentOf(const HttpRequest& request) {
  const std::string& text = request.Header("traceparent");
  const bool well_formed =
      text.size() == 55 && text.find_first_not_of("0123456789abcdef-") == std::string::npos;
  return well_formed ? text : "";
}

HttpResponse PageResponse(const WebFile& file) {
  return {.content_type = std::string(file.content_type),
          .body = std::string(file.bytes),
          .headers = {{"Content-Security-Policy", kWebPolicy},
                      {"X-Content-Type-Options", "nosniff"},
                      {"Cache-Control", "no-cache"}}};
}

}  // namespace

// One request that reached an endpoint.
struct HttpFrontEnd::Call {
  const HttpRequest& request;
  std::shared_ptr<HttpExchange> exchange;
  openai::Json body = {};  // of a POST

  void Respond(const absl::StatusOr<openai::Json>& result) const {
    exchange->Respond(result.ok() ? JsonResponse(*result) : ErrorResponse(result.status()));
  }
};

HttpFrontEnd::HttpFrontEnd(FlowServices& services, FrontEndOptions options,
                           std::function<bool()> ready)
    : services_(services),
      options_(options),
      ready_(std::move(ready)),
      started_at_(UnixSeconds()) {}

HttpResponse HttpFrontEnd::Refuse(int status, const std::string& message) {
  return JsonResponse({{"error",
                        {{"message", message},
                         {"type", "invalid_request_error"},
                         {"param", nullptr},
                         {"code", nullptr}}}},
                      status);
}

std::shared_ptr<CallScope> HttpFrontEnd::MakeScope(const HttpRequest& request) const {
  CallScope::Deadline deadline = CallScope::Deadline::max();
  if (options_.default_deadline > Duration{}) {
    deadline = std::chrono::system_clock::now() +
               std::chrono::duration_cast<CallScope::Deadline::duration>(options_.default_deadline);
  }
  return std::make_shared<CallScope>(
      RequestContext{.request_id = request.request_id, .traceparent = TraceParentOf(request)},
      deadline);
}

void HttpFrontEnd::Handle(const HttpRequest& request,
                          const std::shared_ptr<HttpExchange>& exchange) {
  using Endpoint = std::function<void(const Call&)>;
  struct Route {
    const char* method;
    Endpoint run;
  };
  const std::map<std::string, Route> routes = {
      {"/v1/chat/completions",
       {"POST", [this](const Call& call) { Generate(openai::Api::kChat, call); }}},
      {"/v1/completions",
       {"POST", [this](const Call& call) { Generate(openai::Api::kCompletions, call); }}},
      {"/v1/embeddings", {"POST", [this](const Call& call) { Embed(call); }}},
      {"/tokenize", {"POST", [this](const Call& call) { Tokenize(call); }}},
      {"/detokenize", {"POST", [this](const Call& call) { Detokenize(call); }}},
      {"/apply-template", {"POST", [this](const Call& call) { ApplyTemplate(call); }}},
      {"/v1/models", {"GET", [this](const Call& call) { Models(call); }}},
      {"/health", {"GET", [this](const Call& call) { Health(call); }}},
      {"/version",
       {"GET",
        [](const Call& call) {
          call.Respond(openai::Json{{"version", std::string(ThisBuild().version)}});
        }}},
  };
  Call call{.request = request, .exchange = exchange};
  if (request.method == "GET" || request.method == "HEAD") {
    if (const auto file = FindWebFile(request.path); file.has_value()) {
      exchange->Respond(PageResponse(*file));
      return;
    }
  }
  const auto route = routes.find(request.path);
  const bool one_model = request.path.rfind(kModelPrefix, 0) == 0;
  if (route == routes.end() && !one_model) {
    exchange->Respond(ErrorResponse(
        WithReason(absl::NotFoundError(absl::StrFormat(
                       "there is no %s here; the API begins at /v1/models", request.path)),
                   "UNKNOWN_URL")));
    return;
  }
  const std::string allowed = one_model ? "GET" : route->second.method;
  if (request.method != allowed && !(allowed == "GET" && request.method == "HEAD")) {
    HttpResponse response =
        Refuse(405, absl::StrFormat("%s takes %s, not %s", request.path, allowed, request.method));
    response.headers.emplace_back("Allow", allowed);
    exchange->Respond(std::move(response));
    return;
  }
  if (allowed == "POST") {
    auto body = openai::ParseBody(request.body);
    if (!body.ok()) {
      exchange->Respond(ErrorResponse(body.status()));
      return;
    }
    call.body = *std::move(body);
  }
  // The JSON library throws; nothing that a client sends may end the process.
  try {
    one_model ? Model(call, request.path.substr(std::string(kModelPrefix).size()))
              : route->second.run(call);
  } catch (const std::exception& error) {
    Log(LogLevel::kError, "HTTP request failed", {{"error", std::string(error.what())}});
    exchange->Respond(ErrorResponse(absl::InternalError("see the log of the gateway")));
  }
}

void HttpFrontEnd::Generate(openai::Api api, const Call& call) {
  auto parsed = openai::ParseGenerateCall(api, call.body);
  if (!parsed.ok()) {
    call.Respond(parsed.status());
    return;
  }
  const char* prefix = api == openai::Api::kChat ? "chatcmpl-" : "cmpl-";
  auto answer = std::make_shared<HttpAnswer>(
      *parsed, openai::AnswerIdentity{.id = prefix + NewRequestId(), .created = UnixSeconds()},
      call.exchange, options_.client_buffer_bytes);
  std::vector<std::shared_ptr<GenerationFlow>> flows;
  for (std::size_t i = 0; i < parsed->requests.size(); ++i) {
    auto scope = MakeScope(call.request);
    auto record =
        std::make_unique<RequestRecord>(services_.metrics, "Generate", call.request.request_id);
    flows.push_back(GenerationFlow::Start(services_, std::move(parsed->requests[i]),
                                          std::move(scope), std::move(record), answer->SinkOf(i)));
  }
  answer->Attach(std::move(flows));
}

void HttpFrontEnd::Embed(const Call& call) {
  auto parsed = openai::ParseEmbedCall(call.body);
  if (!parsed.ok()) {
    call.Respond(parsed.status());
    return;
  }
  auto scope = MakeScope(call.request);
  call.exchange->OnGone([scope] { scope->Cancel(); });
  auto record =
      std::make_shared<RequestRecord>(services_.metrics, "Embed", call.request.request_id);
  auto finish = [exchange = call.exchange, embed = *parsed,
                 record](absl::StatusOr<v1::EmbedResponse> embedded) {
    auto answer = embedded.ok() ? openai::EmbedAnswer(embed, *embedded) : embedded.status();
    if (embedded.ok()) {
      record->model = embedded->model();
      record->prompt_tokens = embedded->usage().prompt_tokens();
    }
    record->End(answer.status());
    exchange->Respond(answer.ok() ? JsonResponse(*answer) : ErrorResponse(answer.status()));
  };
  if (parsed->token_inputs.empty()) {
    StartEmbed(services_, std::move(parsed->request), std::move(scope), std::move(finish));
  } else {
    StartEmbedTokens(services_, std::move(parsed->request), std::move(parsed->token_inputs),
                     std::move(scope), std::move(finish));
  }
}

void HttpFrontEnd::Tokenize(const Call& call) {
  const auto parsed = openai::ParseTokenizeCall(call.body);
  if (!parsed.ok()) {
    call.Respond(parsed.status());
    return;
  }
  StartTokenize(services_, *parsed, MakeScope(call.request),
                [this, exchange = call.exchange](absl::StatusOr<v1::TokenizeResponse> tokens) {
                  if (!tokens.ok()) {
                    exchange->Respond(ErrorResponse(tokens.status()));
                    return;
                  }
                  const auto model = GetModel(services_, tokens->model());
                  exchange->Respond(JsonResponse(openai::TokenizeAnswer(
                      *tokens, model.ok() ? model->model().context_tokens() : 0)));
                });
}

void HttpFrontEnd::Detokenize(const Call& call) {
  const auto parsed = openai::ParseDetokenizeCall(call.body);
  if (!parsed.ok()) {
    call.Respond(parsed.status());
    return;
  }
  StartDetokenize(services_, *parsed, MakeScope(call.request),
                  [exchange = call.exchange](absl::StatusOr<v1::DetokenizeResponse> text) {
                    exchange->Respond(text.ok() ? JsonResponse(openai::DetokenizeAnswer(*text))
                                                : ErrorResponse(text.status()));
                  });
}

// What a conversation looks like to the model: its tokens, and those as text.
void HttpFrontEnd::ApplyTemplate(const Call& call) {
  const auto parsed = openai::ParseTokenizeCall(call.body);
  if (!parsed.ok() || !parsed->has_chat()) {
    call.Respond(parsed.ok() ? openai::WrongField("messages", "is missing") : parsed.status());
    return;
  }
  auto scope = MakeScope(call.request);
  StartTokenize(
      services_, *parsed, scope,
      [this, scope, exchange = call.exchange](absl::StatusOr<v1::TokenizeResponse> tokens) {
        if (!tokens.ok()) {
          exchange->Respond(ErrorResponse(tokens.status()));
          return;
        }
        v1::DetokenizeRequest back;
        back.set_model(tokens->model());
        *back.mutable_token_ids() = tokens->token_ids();
        StartDetokenize(
            services_, back, scope,
            [exchange, tokens = *tokens](absl::StatusOr<v1::DetokenizeResponse> text) {
              exchange->Respond(text.ok()
                                    ? JsonResponse({{"prompt", text->text()},
                                                    {"tokens", openai::Json(tokens.token_ids())}})
                                    : ErrorResponse(text.status()));
            });
      });
}

void HttpFrontEnd::Models(const Call& call) {
  call.Respond(openai::ModelsAnswer(ListModels(services_), started_at_));
}

void HttpFrontEnd::Model(const Call& call, const std::string& name) {
  const auto found = GetModel(services_, name);
  call.Respond(found.ok()
                   ? absl::StatusOr<openai::Json>(openai::ModelJson(found->model(), started_at_))
                   : found.status());
}

void HttpFrontEnd::Health(const Call& call) {
  if (ready_()) {
    call.Respond(openai::Json{{"status", "ok"}});
  } else {
    call.Respond(WithReason(absl::UnavailableError("no model has both a ready worker group and a "
                                                   "tokenizer, or this gateway is draining"),
                            "NOT_READY"));
  }
}

}  // namespace yangtuo::gateway
