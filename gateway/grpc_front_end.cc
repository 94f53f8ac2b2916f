#include "gateway/grpc_front_end.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "gateway/embed_flow.h"
#include "gateway/generate_writer.h"
#include "gateway/text_calls.h"
#include "services/common/request_context.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

std::string AuthorizationOf(const grpc::CallbackServerContext& context) {
  const auto found = context.client_metadata().find("authorization");
  return found == context.client_metadata().end()
             ? ""
             : std::string(found->second.data(), found->second.size());
}

}  // namespace

struct GrpcFrontEnd::Arrival {
  std::shared_ptr<CallScope> scope;
  std::unique_ptr<RequestRecord> record;
  absl::Status allowed;
};

// Carries the result of a flow into one unary call. Owns itself until OnDone, which gRPC calls only
// after Finish; so the pointer that Answer gives away is valid until it is used, once.
template <typename Response>
class GrpcFrontEnd::UnaryAnswer final : public grpc::ServerUnaryReactor {
 public:
  UnaryAnswer(std::shared_ptr<CallScope> scope, std::unique_ptr<RequestRecord> record,
              Response& response)
      : scope_(std::move(scope)), record_(std::move(record)), response_(response) {}

  Callback<Response> Answer() {
    return [this](absl::StatusOr<Response> result) {
      if (result.ok()) {
        response_ = *std::move(result);
        record_->model = ModelOf(response_);
      }
      record_->End(result.status());
      Finish(ToGrpc(result.status()));
    };
  }
  OnTokensCounted Counted() {
    return [this](const std::string& model, std::uint64_t tokens) {
      record_->model = model;
      record_->SetPromptTokens(tokens);
    };
  }

 private:
  static std::string ModelOf(const Response& response) {
    if constexpr (requires { std::string(response.model()); }) {
      return response.model();
    } else {
      return "";
    }
  }

  void OnCancel() override { scope_->Cancel(); }
  void OnDone() override { delete this; }

  const std::shared_ptr<CallScope> scope_;
  const std::unique_ptr<RequestRecord> record_;
  Response& response_;
};

GrpcFrontEnd::Arrival GrpcFrontEnd::Receive(const grpc::CallbackServerContext& context,
                                            const Entry& entry) const {
  RequestContext identity = RequestContext::FromServer(context);
  if (!entry.request_id.empty()) {
    identity.request_id = entry.request_id;
  }
  // The request is refused for it later; until then it needs a name that fits into a log line.
  if (!CheckRequestId(identity.request_id).ok()) {
    identity.request_id = NewRequestId();
  }
  CallScope::Deadline deadline = context.deadline();
  if (deadline == CallScope::Deadline::max() && options_.default_deadline > Duration{}) {
    deadline = std::chrono::system_clock::now() +
               std::chrono::duration_cast<CallScope::Deadline::duration>(options_.default_deadline);
  }
  Arrival arrival{.scope = nullptr,
                  .record = std::make_unique<RequestRecord>(services_.metrics, entry.method,
                                                            identity.request_id),
                  .allowed = absl::OkStatus()};
  RequestRecord& record = *arrival.record;
  record.span =
      services_.tracer.Serve(identity, absl::StrCat("yangtuo.v1.GenerationService/", entry.method));
  record.span.Set("rpc.system", std::string("grpc"));
  record.span.Set("yangtuo.request_id", identity.request_id);
  record.audit = services_.audit;
  record.endpoint = std::string(v1::GenerationService::service_full_name()) + "/" + entry.method;
  auto caller = services_.access.Authenticate(AuthorizationOf(context));
  if (!caller.ok()) {
    arrival.allowed = caller.status();
  } else {
    record.caller = *caller;
    if (entry.counts == Counts::kAsRequest) {
      auto visit = Visit::Enter(**caller, 1, record.arrival());
      arrival.allowed = visit.status();
      record.visit = visit.ok() ? *std::move(visit) : nullptr;
    }
  }
  arrival.scope =
      std::make_shared<CallScope>(std::move(identity), deadline, record.caller, record.span);
  return arrival;
}

grpc::ServerWriteReactor<v1::GenerateResponse>* GrpcFrontEnd::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  Arrival arrival = Receive(*context, {.method = "Generate", .request_id = request->request_id()});
  auto writer = GenerateWriter::Create(*context, options_.client_buffer_bytes, services_.timers);
  // gRPC may end the call, and the writer with it, as soon as it has its status.
  auto* const reactor = writer.get();
  if (!arrival.allowed.ok()) {
    arrival.record->End(arrival.allowed);
    writer->End(arrival.allowed);
    return reactor;
  }
  arrival.record->NotePrompt(*request);
  writer->Attach(GenerationFlow::Start(services_, *request, std::move(arrival.scope),
                                       std::move(arrival.record), writer));
  return reactor;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::Embed(grpc::CallbackServerContext* context,
                                              const v1::EmbedRequest* request,
                                              v1::EmbedResponse* response) {
  Arrival arrival = Receive(*context, {.method = "Embed", .request_id = request->request_id()});
  arrival.record->NotePrompt(*request);
  auto* answer =
      new UnaryAnswer<v1::EmbedResponse>(arrival.scope, std::move(arrival.record), *response);
  if (arrival.allowed.ok()) {
    StartEmbed(services_, *request, {}, std::move(arrival.scope), answer->Counted(),
               answer->Answer());
  } else {
    answer->Answer()(arrival.allowed);
  }
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::Tokenize(grpc::CallbackServerContext* context,
                                                 const v1::TokenizeRequest* request,
                                                 v1::TokenizeResponse* response) {
  Arrival arrival = Receive(*context, {.method = "Tokenize"});
  arrival.record->NotePrompt(*request);
  auto* answer =
      new UnaryAnswer<v1::TokenizeResponse>(arrival.scope, std::move(arrival.record), *response);
  if (arrival.allowed.ok()) {
    StartTokenize(services_, *request, std::move(arrival.scope), answer->Answer());
  } else {
    answer->Answer()(arrival.allowed);
  }
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::Detokenize(grpc::CallbackServerContext* context,
                                                   const v1::DetokenizeRequest* request,
                                                   v1::DetokenizeResponse* response) {
  Arrival arrival = Receive(*context, {.method = "Detokenize"});
  arrival.record->NotePrompt(*request);
  auto* answer =
      new UnaryAnswer<v1::DetokenizeResponse>(arrival.scope, std::move(arrival.record), *response);
  if (arrival.allowed.ok()) {
    StartDetokenize(services_, *request, std::move(arrival.scope), answer->Answer());
  } else {
    answer->Answer()(arrival.allowed);
  }
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* /*request*/,
                                                   v1::ListModelsResponse* response) {
  Arrival arrival = Receive(*context, {.method = "ListModels", .counts = Counts::kNot});
  auto* answer =
      new UnaryAnswer<v1::ListModelsResponse>(arrival.scope, std::move(arrival.record), *response);
  if (arrival.allowed.ok()) {
    answer->Answer()(gateway::ListModels(services_, arrival.scope->caller()));
  } else {
    answer->Answer()(arrival.allowed);
  }
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request,
                                                 v1::GetModelResponse* response) {
  Arrival arrival = Receive(*context, {.method = "GetModel", .counts = Counts::kNot});
  auto* answer =
      new UnaryAnswer<v1::GetModelResponse>(arrival.scope, std::move(arrival.record), *response);
  if (arrival.allowed.ok()) {
    answer->Answer()(gateway::GetModel(services_, arrival.scope->caller(), request->model()));
  } else {
    answer->Answer()(arrival.allowed);
  }
  return answer;
}

}  // namespace yangtuo::gateway
