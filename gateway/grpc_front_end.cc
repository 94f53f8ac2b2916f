#include "gateway/grpc_front_end.h"

#include <utility>

#include "gateway/embed_flow.h"
#include "gateway/generate_writer.h"
#include "gateway/text_calls.h"
#include "services/common/request_context.h"
#include "services/common/status.h"

namespace yangtuo::gateway {

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
        record_->prompt_tokens = TokensOf(response_);
      }
      record_->End(result.status());
      Finish(ToGrpc(result.status()));
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
  static std::uint64_t TokensOf(const Response& response) {
    if constexpr (requires { response.usage(); }) {
      return response.usage().prompt_tokens();
    } else {
      return 0;
    }
  }

  void OnCancel() override { scope_->Cancel(); }
  void OnDone() override { delete this; }

  const std::shared_ptr<CallScope> scope_;
  const std::unique_ptr<RequestRecord> record_;
  Response& response_;
};

std::shared_ptr<CallScope> GrpcFrontEnd::MakeScope(const grpc::CallbackServerContext& context,
                                                   const std::string& request_id) const {
  RequestContext identity = RequestContext::FromServer(context);
  if (!request_id.empty()) {
    identity.request_id = request_id;
  } else if (!CheckRequestId(identity.request_id).ok()) {
    identity.request_id = NewRequestId();
  }
  CallScope::Deadline deadline = context.deadline();
  if (deadline == CallScope::Deadline::max() && options_.default_deadline > Duration{}) {
    deadline = std::chrono::system_clock::now() +
               std::chrono::duration_cast<CallScope::Deadline::duration>(options_.default_deadline);
  }
  return std::make_shared<CallScope>(std::move(identity), deadline);
}

grpc::ServerWriteReactor<v1::GenerateResponse>* GrpcFrontEnd::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  auto scope = MakeScope(*context, request->request_id());
  auto record =
      std::make_unique<RequestRecord>(services_.metrics, "Generate", scope->context().request_id);
  auto writer = GenerateWriter::Create(*context, options_.client_buffer_bytes, services_.timers);
  writer->Attach(
      GenerationFlow::Start(services_, *request, std::move(scope), std::move(record), writer));
  return writer.get();
}

grpc::ServerUnaryReactor* GrpcFrontEnd::Embed(grpc::CallbackServerContext* context,
                                              const v1::EmbedRequest* request,
                                              v1::EmbedResponse* response) {
  auto scope = MakeScope(*context, request->request_id());
  auto record =
      std::make_unique<RequestRecord>(services_.metrics, "Embed", scope->context().request_id);
  auto* answer = new UnaryAnswer<v1::EmbedResponse>(scope, std::move(record), *response);
  StartEmbed(services_, *request, std::move(scope), answer->Answer());
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::Tokenize(grpc::CallbackServerContext* context,
                                                 const v1::TokenizeRequest* request,
                                                 v1::TokenizeResponse* response) {
  auto scope = MakeScope(*context, "");
  auto record =
      std::make_unique<RequestRecord>(services_.metrics, "Tokenize", scope->context().request_id);
  auto* answer = new UnaryAnswer<v1::TokenizeResponse>(scope, std::move(record), *response);
  StartTokenize(services_, *request, std::move(scope), answer->Answer());
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::Detokenize(grpc::CallbackServerContext* context,
                                                   const v1::DetokenizeRequest* request,
                                                   v1::DetokenizeResponse* response) {
  auto scope = MakeScope(*context, "");
  auto record =
      std::make_unique<RequestRecord>(services_.metrics, "Detokenize", scope->context().request_id);
  auto* answer = new UnaryAnswer<v1::DetokenizeResponse>(scope, std::move(record), *response);
  StartDetokenize(services_, *request, std::move(scope), answer->Answer());
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* /*request*/,
                                                   v1::ListModelsResponse* response) {
  auto scope = MakeScope(*context, "");
  auto record =
      std::make_unique<RequestRecord>(services_.metrics, "ListModels", scope->context().request_id);
  auto* answer =
      new UnaryAnswer<v1::ListModelsResponse>(std::move(scope), std::move(record), *response);
  answer->Answer()(gateway::ListModels(services_));
  return answer;
}

grpc::ServerUnaryReactor* GrpcFrontEnd::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request,
                                                 v1::GetModelResponse* response) {
  auto scope = MakeScope(*context, "");
  auto record =
      std::make_unique<RequestRecord>(services_.metrics, "GetModel", scope->context().request_id);
  auto* answer =
      new UnaryAnswer<v1::GetModelResponse>(std::move(scope), std::move(record), *response);
  answer->Answer()(gateway::GetModel(services_, request->model()));
  return answer;
}

}  // namespace yangtuo::gateway
