#include "services/inference/inference_service.h"

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "inference_core/base/status_macros.h"
#include "services/common/log.h"
#include "services/common/request_context.h"
#include "services/common/status.h"
#include "services/inference/embed_call.h"
#include "services/inference/token_stream.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;

// A call that ends at once.
class EndedStream final : public grpc::ServerWriteReactor<pb::GenerateResponse> {
 public:
  explicit EndedStream(const absl::Status& status) { Finish(ToGrpc(status)); }

 private:
  void OnDone() override { delete this; }
};

std::string RequestIdOf(const grpc::CallbackServerContext& context, const std::string& in_request) {
  return in_request.empty() ? RequestContext::FromServer(context).request_id : in_request;
}

// What the other shards are told: only of what is recorded.
std::string TraceparentOf(const Span& span) {
  return span.recording() ? ToTraceparent(*span.context()) : "";
}

// gRPC's deadline is wall-clock time; the engine's is monotonic.
std::optional<TimePoint> DeadlineOf(const grpc::CallbackServerContext& context,
                                    const Clock& clock) {
  const auto left = context.deadline() - std::chrono::system_clock::now();
  if (left > std::chrono::hours(24 * 365)) {
    return std::nullopt;  // none: gRPC says "infinite future"
  }
  return clock.Now() + std::chrono::duration_cast<Duration>(left);
}

}  // namespace

InferenceService::InferenceService(StatusBoard& board, WorkerMetrics& metrics, const Clock& clock,
                                   Options options)
    : board_(board), metrics_(metrics), clock_(clock), options_(std::move(options)) {}

void InferenceService::Serve(Engine& engine, ServedModel model) {
  owned_ = std::make_unique<Serving>(Serving{engine, std::move(model)});
  serving_.store(owned_.get());
}

template <typename Request>
absl::StatusOr<EngineRequest> InferenceService::Accept(grpc::CallbackServerContext& context,
                                                       const Request& request) const {
  const Serving* serving = serving_.load();
  if (serving == nullptr) {
    return options_.refusal;
  }
  if (!request.request_id().empty() && !CheckRequestId(request.request_id()).ok()) {
    return InvalidField("request_id", "must be 1 to 128 printable ASCII characters");
  }
  YANGTUO_ASSIGN_OR_RETURN(EngineRequest accepted, ToEngineRequest(request, serving->model));
  accepted.deadline = DeadlineOf(context, clock_);
  return accepted;
}

TokenStream::Parts InferenceService::PartsOfCall() {
  return {.engine = serving_.load()->engine, .calls = calls_, .metrics = metrics_, .clock = clock_};
}

Span InferenceService::SpanOf(const grpc::CallbackServerContext& context, const char* method,
                              const char* operation) const {
  if (options_.tracer == nullptr) {
    return {};
  }
  const RequestContext incoming = RequestContext::FromServer(context);
  Span span = options_.tracer->Serve(incoming,
                                     absl::StrCat("yangtuo.internal.v1.InferenceService/", method));
  span.Set("rpc.system", std::string("grpc"));
  span.Set("gen_ai.operation.name", std::string(operation));
  span.Set("gen_ai.provider.name", std::string("yangtuo"));
  span.Set("gen_ai.request.model", options_.model);
  span.Set("yangtuo.request_id", incoming.request_id);
  return span;
}

absl::Status InferenceService::Refused(const absl::Status& status,
                                       const std::string& request_id) const {
  metrics_.RequestEnded(status, Duration::zero());
  Log(LogLevel::kInfo, "request refused",
      {{"request_id", request_id},
       {"code", absl::StatusCodeToString(status.code())},
       {"reason", std::string(status.message())}});
  return status;
}

grpc::ServerWriteReactor<pb::GenerateResponse>* InferenceService::Generate(
    grpc::CallbackServerContext* context, const pb::GenerateRequest* request) {
  const std::string request_id = RequestIdOf(*context, request->request_id());
  const Span span = SpanOf(*context, "Generate", "text_completion");
  absl::StatusOr<EngineRequest> accepted = Accept(*context, *request);
  if (!accepted.ok()) {
    span.End(accepted.status());
    return new EndedStream(Refused(accepted.status(), request_id));
  }
  accepted->traceparent = TraceparentOf(span);
  TokenStream::Options stream_options;
  stream_options.max_pending_bytes = options_.max_pending_bytes;
  stream_options.request_id = request_id;
  stream_options.span = span;
  stream_options.describe = [this](const absl::Status& status) {
    return DescribeFailure(status, acceptance_.load());
  };
  auto* stream = new TokenStream(PartsOfCall(), std::move(stream_options));
  stream->Start(*std::move(accepted));
  return stream;
}

grpc::ServerUnaryReactor* InferenceService::Embed(grpc::CallbackServerContext* context,
                                                  const pb::EmbedRequest* request,
                                                  pb::EmbedResponse* response) {
  const std::string request_id = RequestIdOf(*context, request->request_id());
  const Span span = SpanOf(*context, "Embed", "embeddings");
  absl::StatusOr<EngineRequest> accepted = Accept(*context, *request);
  if (!accepted.ok()) {
    span.End(accepted.status());
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(Refused(accepted.status(), request_id)));
    return reactor;
  }
  accepted->traceparent = TraceparentOf(span);
  EmbedCall::Options call_options;
  call_options.request_id = request_id;
  call_options.span = span;
  call_options.describe = [this](const absl::Status& status) {
    return DescribeFailure(status, acceptance_.load());
  };
  auto* call = new EmbedCall(PartsOfCall(), std::move(call_options), response);
  call->Start(*std::move(accepted));
  return call;
}

grpc::ServerUnaryReactor* InferenceService::GetStatus(grpc::CallbackServerContext* context,
                                                      const pb::GetStatusRequest* /*request*/,
                                                      pb::GetStatusResponse* response) {
  *response->mutable_status() = board_.Read();
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerWriteReactor<pb::WatchStatusResponse>* InferenceService::WatchStatus(
    grpc::CallbackServerContext* /*context*/, const pb::WatchStatusRequest* /*request*/) {
  return board_.Watch();
}

}  // namespace yangtuo
