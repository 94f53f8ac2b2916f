#include "gateway/http_front_end.h"

#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gateway/embed_flow.h"
#include "gateway/http_answer.h"
#include "gateway/openai/demo_shapes.h"
#include "gateway/openai/other_calls.h"
#include "gateway/text_calls.h"
#include "gateway/web/web_page.h"
#include "inference_core/base/status_macros.h"
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
  openai::Json body = {};                           // of a POST
  std::unique_ptr<RequestRecord> record = nullptr;  // null: of an endpoint that has none
  std::shared_ptr<const Caller> caller = nullptr;
};

struct HttpFrontEnd::Route {
  const char* method;
  void (HttpFrontEnd::*run)(Call&);
  // Of its RequestRecord. Null: open to everybody, and not recorded.
  const char* record = nullptr;
  enum class Counts {
    kNot,        // towards the limits of the caller's key
    kAsRequest,  // one
    kByPrompts   // known once the body is read
  } counts = Counts::kNot;
};

const HttpFrontEnd::Route* HttpFrontEnd::FindRoute(const std::string& path) {
  using Counts = Route::Counts;
  static const std::map<std::string, Route> kRoutes = {
      {"/v1/chat/completions", {"POST", &HttpFrontEnd::Chat, "Generate", Counts::kByPrompts}},
      {"/v1/completions", {"POST", &HttpFrontEnd::Complete, "Generate", Counts::kByPrompts}},
      {"/v1/embeddings", {"POST", &HttpFrontEnd::Embed, "Embed", Counts::kAsRequest}},
      {"/tokenize", {"POST", &HttpFrontEnd::Tokenize, "Tokenize", Counts::kAsRequest}},
      {"/detokenize", {"POST", &HttpFrontEnd::Detokenize, "Detokenize", Counts::kAsRequest}},
      {"/apply-template",
       {"POST", &HttpFrontEnd::ApplyTemplate, "ApplyTemplate", Counts::kAsRequest}},
      {"/v1/models", {"GET", &HttpFrontEnd::Models, "ListModels"}},
      {"/health", {"GET", &HttpFrontEnd::Health}},
      {"/version", {"GET", &HttpFrontEnd::Version}},
  };
  static const Route kModel = {"GET", &HttpFrontEnd::Model, "GetModel"};
  const auto found = kRoutes.find(path);
  if (found != kRoutes.end()) {
    return &found->second;
  }
  const std::size_t prefix = std::string_view(kModelPrefix).size();
  return path.size() > prefix && path.compare(0, prefix, kModelPrefix) == 0 ? &kModel : nullptr;
}

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

HttpResponse HttpFrontEnd::Failure(const absl::Status& status) const {
  return demo() ? DemoErrorResponse(status) : ErrorResponse(status);
}

// The end of a call that no flow took over.
void HttpFrontEnd::Respond(Call& call, const absl::StatusOr<openai::Json>& result) const {
  if (call.record != nullptr) {
    call.record->End(result.status());
  }
  call.exchange->Respond(result.ok() ? JsonResponse(*result) : Failure(result.status()));
}

std::shared_ptr<CallScope> HttpFrontEnd::MakeScope(const Call& call, RequestRecord& record) const {
  CallScope::Deadline deadline = CallScope::Deadline::max();
  if (options_.default_deadline > Duration{}) {
    deadline = std::chrono::system_clock::now() +
               std::chrono::duration_cast<CallScope::Deadline::duration>(options_.default_deadline);
  }
  RequestContext identity{.request_id = call.request.request_id,
                          .traceparent = call.request.Header("traceparent"),
                          .tracestate = call.request.Header("tracestate")};
  record.span =
      services_.tracer.Serve(identity, absl::StrCat(call.request.method, " ", call.request.path));
  record.span.Set("http.request.method", call.request.method);
  record.span.Set("http.route", call.request.path);
  record.span.Set("yangtuo.request_id", identity.request_id);
  return std::make_shared<CallScope>(std::move(identity), deadline, call.caller, record.span);
}

std::unique_ptr<RequestRecord> HttpFrontEnd::MakeRecord(const char* method,
                                                        const Call& call) const {
  auto record = std::make_unique<RequestRecord>(services_.metrics, method, call.request.request_id);
  record->audit = services_.audit;
  record->endpoint = call.request.path;
  record->caller = call.caller;
  return record;
}

absl::Status HttpFrontEnd::EnterAsRequests(std::uint32_t requests, Call& call) const {
  YANGTUO_ASSIGN_OR_RETURN(call.record->visit,
                           Visit::Enter(*call.caller, requests, call.record->arrival()));
  return absl::OkStatus();
}

absl::Status HttpFrontEnd::Enter(const Route& route, Call& call) const {
  YANGTUO_ASSIGN_OR_RETURN(call.caller,
                           services_.access.Authenticate(call.request.Header("authorization")));
  call.record->caller = call.caller;
  call.exchange->AddToHead([caller = call.caller] {
    return RateLimitHeaders(*caller, std::chrono::steady_clock::now());
  });
  return route.counts == Route::Counts::kAsRequest ? EnterAsRequests(1, call) : absl::OkStatus();
}

std::optional<HttpResponse> HttpFrontEnd::Admit(const HttpRequest& head) const {
  const Route* const route = FindRoute(head.path);
  if (route == nullptr || route->record == nullptr || head.method != route->method) {
    return std::nullopt;  // Handle says what is wrong
  }
  const absl::Status allowed = services_.access.Authenticate(head.Header("authorization")).status();
  if (allowed.ok()) {
    return std::nullopt;
  }
  MakeRecord(route->record, {.request = head, .exchange = nullptr})->End(allowed);
  return Failure(allowed);
}

void HttpFrontEnd::Handle(const HttpRequest& request,
                          const std::shared_ptr<HttpExchange>& exchange) {
  const bool reads = request.method == "GET" || request.method == "HEAD";
  if (reads) {
    if (const auto file = FindWebFile(request.path); file.has_value()) {
      exchange->Respond(PageResponse(*file));
      return;
    }
  }
  const Route* const route = FindRoute(request.path);
  if (route == nullptr) {
    exchange->Respond(ErrorResponse(
        WithReason(absl::NotFoundError(absl::StrFormat(
                       "there is no %s here; the API begins at /v1/models", request.path)),
                   "UNKNOWN_URL")));
    return;
  }
  if (request.method != route->method && !(reads && std::string_view(route->method) == "GET")) {
    HttpResponse response = Refuse(
        405, absl::StrFormat("%s takes %s, not %s", request.path, route->method, request.method));
    response.headers.emplace_back("Allow", route->method);
    exchange->Respond(std::move(response));
    return;
  }
  Call call{.request = request, .exchange = exchange};
  if (route->record != nullptr) {
    call.record = MakeRecord(route->record, call);
    if (const absl::Status entered = Enter(*route, call); !entered.ok()) {
      Respond(call, entered);
      return;
    }
  }
  if (std::string_view(route->method) == "POST") {
    auto body = openai::ParseBody(request.body);
    if (!body.ok()) {
      Respond(call, body.status());
      return;
    }
    call.body = *std::move(body);
  }
  // The JSON library throws; nothing that a client sends may end the process.
  try {
    (this->*route->run)(call);
  } catch (const std::exception& error) {
    Log(LogLevel::kError, "HTTP request failed", {{"error", std::string(error.what())}});
    exchange->Respond(ErrorResponse(absl::InternalError("see the log of the gateway")));
  }
}

// As the demo servers understand a request: whatever name the model has, and prompts as
// instructions where the model knows a template for them.
absl::StatusOr<openai::GenerateCall> HttpFrontEnd::ParseDemoCall(openai::Api api,
                                                                 Call& call) const {
  const auto name = call.body.find("model");
  if (name != call.body.end() &&
      (!name->is_string() || !GetModel(services_, *call.caller, name->get<std::string>()).ok())) {
    call.body.erase(name);
  }
  openai::TakeDemoDefaults(call.body);
  YANGTUO_ASSIGN_OR_RETURN(openai::GenerateCall parsed, openai::ParseGenerateCall(api, call.body));
  const auto model = GetModel(services_, *call.caller, parsed.requests.front().model());
  if (model.ok() && !model->model().chat_template().empty()) {
    openai::WrapPrompts(parsed);
  }
  return parsed;
}

void HttpFrontEnd::Generate(openai::Api api, Call& call) {
  auto parsed = demo() ? ParseDemoCall(api, call) : openai::ParseGenerateCall(api, call.body);
  const auto prompts = parsed.ok() ? static_cast<std::uint32_t>(parsed->requests.size()) : 0;
  const absl::Status entered = parsed.ok() ? EnterAsRequests(prompts, call) : parsed.status();
  if (!entered.ok()) {
    Respond(call, entered);
    return;
  }
  const char* prefix = api == openai::Api::kChat ? "chatcmpl-" : "cmpl-";
  auto answer = std::make_shared<HttpAnswer>(
      *parsed, openai::AnswerIdentity{.id = prefix + NewRequestId(), .created = UnixSeconds()},
      call.exchange,
      HttpAnswer::Options{
          .buffer_bytes = options_.client_buffer_bytes,
          .demo_body = demo() ? std::optional<openai::Json>(call.body) : std::nullopt});
  const std::shared_ptr<Visit> visit = call.record->visit;
  std::vector<std::shared_ptr<GenerationFlow>> flows;
  for (std::size_t i = 0; i < parsed->requests.size(); ++i) {
    auto record = i == 0 ? std::move(call.record) : MakeRecord("Generate", call);
    record->visit = visit;
    record->NotePrompt(parsed->requests[i]);
    auto scope = MakeScope(call, *record);
    flows.push_back(GenerationFlow::Start(services_, std::move(parsed->requests[i]),
                                          std::move(scope), std::move(record), answer->SinkOf(i)));
  }
  answer->Attach(std::move(flows));
}

void HttpFrontEnd::Embed(Call& call) {
  if (demo()) {
    call.body.erase("model");
    call.body.erase("encoding_format");
  }
  auto parsed = openai::ParseEmbedCall(call.body);
  if (!parsed.ok()) {
    Respond(call, parsed.status());
    return;
  }
  const std::shared_ptr<RequestRecord> record = std::move(call.record);
  auto scope = MakeScope(call, *record);
  call.exchange->OnGone([scope] { scope->Cancel(); });
  parsed->token_inputs.empty() ? record->NotePrompt(parsed->request)
                               : record->NotePrompt(parsed->token_inputs);
  auto finish = [this, exchange = call.exchange, body = demo() ? call.body : openai::Json(),
                 embed = *parsed, record](absl::StatusOr<v1::EmbedResponse> embedded) {
    auto answer = embedded.ok() ? openai::EmbedAnswer(embed, *embedded) : embedded.status();
    record->End(answer.status());
    if (!answer.ok()) {
      exchange->Respond(Failure(answer.status()));
    } else {
      exchange->Respond(
          JsonResponse(demo() ? openai::DemoEmbeddings(body, *answer) : *std::move(answer)));
    }
  };
  auto counted = [record](const std::string& model, std::uint64_t tokens) {
    record->model = model;
    record->SetPromptTokens(tokens);
  };
  StartEmbed(services_, std::move(parsed->request), std::move(parsed->token_inputs),
             std::move(scope), std::move(counted), std::move(finish));
}

void HttpFrontEnd::Tokenize(Call& call) {
  const auto parsed = openai::ParseTokenizeCall(call.body);
  if (!parsed.ok()) {
    Respond(call, parsed.status());
    return;
  }
  const std::shared_ptr<RequestRecord> record = std::move(call.record);
  record->NotePrompt(*parsed);
  StartTokenize(services_, *parsed, MakeScope(call, *record),
                [this, record, caller = call.caller,
                 exchange = call.exchange](absl::StatusOr<v1::TokenizeResponse> tokens) {
                  record->model = tokens.ok() ? tokens->model() : "";
                  record->End(tokens.status());
                  if (!tokens.ok()) {
                    exchange->Respond(ErrorResponse(tokens.status()));
                    return;
                  }
                  const auto model = GetModel(services_, *caller, tokens->model());
                  exchange->Respond(JsonResponse(openai::TokenizeAnswer(
                      *tokens, model.ok() ? model->model().context_tokens() : 0)));
                });
}

void HttpFrontEnd::Detokenize(Call& call) {
  const auto parsed = openai::ParseDetokenizeCall(call.body);
  if (!parsed.ok()) {
    Respond(call, parsed.status());
    return;
  }
  const std::shared_ptr<RequestRecord> record = std::move(call.record);
  record->NotePrompt(*parsed);
  StartDetokenize(services_, *parsed, MakeScope(call, *record),
                  [record, exchange = call.exchange](absl::StatusOr<v1::DetokenizeResponse> text) {
                    record->model = text.ok() ? text->model() : "";
                    record->End(text.status());
                    exchange->Respond(text.ok() ? JsonResponse(openai::DetokenizeAnswer(*text))
                                                : ErrorResponse(text.status()));
                  });
}

// What a conversation looks like to the model: its tokens, and those as text.
void HttpFrontEnd::ApplyTemplate(Call& call) {
  const auto parsed = openai::ParseTokenizeCall(call.body);
  if (!parsed.ok() || !parsed->has_chat()) {
    Respond(call, parsed.ok() ? openai::WrongField("messages", "is missing") : parsed.status());
    return;
  }
  const std::shared_ptr<RequestRecord> record = std::move(call.record);
  record->NotePrompt(*parsed);
  auto scope = MakeScope(call, *record);
  StartTokenize(
      services_, *parsed, scope,
      [this, scope, record, exchange = call.exchange](absl::StatusOr<v1::TokenizeResponse> tokens) {
        if (!tokens.ok()) {
          record->End(tokens.status());
          exchange->Respond(ErrorResponse(tokens.status()));
          return;
        }
        record->model = tokens->model();
        v1::DetokenizeRequest back;
        back.set_model(tokens->model());
        *back.mutable_token_ids() = tokens->token_ids();
        StartDetokenize(
            services_, back, scope,
            [record, exchange, tokens = *tokens](absl::StatusOr<v1::DetokenizeResponse> text) {
              record->End(text.status());
              exchange->Respond(text.ok()
                                    ? JsonResponse({{"prompt", text->text()},
                                                    {"tokens", openai::Json(tokens.token_ids())}})
                                    : ErrorResponse(text.status()));
            });
      });
}

void HttpFrontEnd::Models(Call& call) {
  Respond(call, openai::ModelsAnswer(ListModels(services_, *call.caller), started_at_));
}

void HttpFrontEnd::Model(Call& call) {
  const std::string name = call.request.path.substr(std::string_view(kModelPrefix).size());
  const auto found = GetModel(services_, *call.caller, name);
  if (found.ok()) {
    call.record->model = found->model().name();
  }
  Respond(call, found.ok()
                    ? absl::StatusOr<openai::Json>(openai::ModelJson(found->model(), started_at_))
                    : found.status());
}

void HttpFrontEnd::Health(Call& call) {
  if (ready_()) {
    Respond(call, openai::Json{{"status", "ok"}});
  } else {
    Respond(call, WithReason(absl::UnavailableError("no model has both a ready worker group and a "
                                                    "tokenizer, or this gateway is draining"),
                             "NOT_READY"));
  }
}

void HttpFrontEnd::Version(Call& call) {
  Respond(call, openai::Json{{"version", std::string(ThisBuild().version)}});
}

}  // namespace yangtuo::gateway
