#include "tools/common/client.h"

#include <algorithm>
#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/client_context.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/channel.h"
#include "services/common/status.h"
#include "yangtuo/v1/generation.grpc.pb.h"

namespace yangtuo {
namespace {

// For calls that compute nothing; long enough for a cluster that is busy with other requests.
constexpr std::chrono::seconds kShortCallLimit{10};

void SetLimit(grpc::ClientContext& context, Duration limit) {
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::milliseconds>(limit));
}

std::string NamesOf(const v1::ListModelsResponse& response) {
  std::vector<std::string> names;
  for (const v1::Model& model : response.models()) {
    names.push_back(model.name());
  }
  return absl::StrJoin(names, ", ");
}

}  // namespace

absl::StatusOr<std::string> ReadAuthorization(const std::string& file) {
  if (file.empty()) {
    return std::string();
  }
  std::ifstream in(file);
  std::string key;
  if (!std::getline(in, key) || key.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "cannot read an API key from \"%s\": its first line must be the key", file));
  }
  const bool printable =
      std::all_of(key.begin(), key.end(), [](char c) { return c > 0x20 && c < 0x7F; });
  if (!printable) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the first line of \"%s\" is no API key: it has characters other than printable ASCII",
        file));
  }
  return "Bearer " + key;
}

struct Client::State {
  std::unique_ptr<v1::GenerationService::Stub> generation;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
  std::string authorization;  // empty: none
  Mutex mutex;
  grpc::ClientContext* generating ABSL_GUARDED_BY(mutex) = nullptr;

  void Prepare(grpc::ClientContext& context, Duration limit) const {
    SetLimit(context, limit);
    if (!authorization.empty()) {
      context.AddMetadata("authorization", authorization);
    }
  }
};

absl::StatusOr<std::unique_ptr<Client>> Client::Create(const ClientOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(const auto channel, CreateChannel(options.server, options.tls));
  auto state = std::make_unique<State>();
  YANGTUO_ASSIGN_OR_RETURN(state->authorization, ReadAuthorization(options.api_key_file));
  state->generation = v1::GenerationService::NewStub(channel);
  state->health = grpc::health::v1::Health::NewStub(channel);
  return std::unique_ptr<Client>(new Client(std::move(state)));
}

Client::Client(std::unique_ptr<State> state) : state_(std::move(state)) {}
Client::~Client() = default;

absl::StatusOr<v1::ListModelsResponse> Client::ListModels() {
  grpc::ClientContext context;
  state_->Prepare(context, kShortCallLimit);
  v1::ListModelsResponse response;
  YANGTUO_RETURN_IF_ERROR(FromGrpc(state_->generation->ListModels(&context, {}, &response)));
  return response;
}

absl::StatusOr<v1::Model> Client::FindModel(const std::string& name) {
  YANGTUO_ASSIGN_OR_RETURN(const v1::ListModelsResponse response, ListModels());
  if (response.models().empty()) {
    return absl::FailedPreconditionError(
        "the cluster serves no model yet: look at `yangtuo status`, or wait until it is ready");
  }
  if (name.empty()) {
    if (response.models_size() > 1) {
      return absl::FailedPreconditionError(
          absl::StrFormat("the cluster serves %d models: choose one with --model (%s)",
                          response.models_size(), NamesOf(response)));
    }
    return response.models(0);
  }
  for (const v1::Model& model : response.models()) {
    if (model.name() == name) {
      return model;
    }
  }
  return absl::NotFoundError(
      absl::StrFormat("no model is named \"%s\" here: there is %s", name, NamesOf(response)));
}

absl::StatusOr<std::uint32_t> Client::CountTokens(const v1::TokenizeRequest& request) {
  grpc::ClientContext context;
  state_->Prepare(context, kShortCallLimit);
  v1::TokenizeResponse response;
  YANGTUO_RETURN_IF_ERROR(FromGrpc(state_->generation->Tokenize(&context, request, &response)));
  return static_cast<std::uint32_t>(response.token_ids_size());
}

absl::StatusOr<bool> Client::IsServing() {
  grpc::ClientContext context;
  state_->Prepare(context, kShortCallLimit);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(v1::GenerationService::service_full_name());
  grpc::health::v1::HealthCheckResponse response;
  YANGTUO_RETURN_IF_ERROR(FromGrpc(state_->health->Check(&context, request, &response)));
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

absl::Status Client::Generate(const v1::GenerateRequest& request, Duration limit,
                              const std::function<void(const v1::GenerateResponse&)>& on_event) {
  grpc::ClientContext context;
  state_->Prepare(context, limit);
  {
    const MutexLock lock(state_->mutex);
    state_->generating = &context;
  }
  const auto stream = state_->generation->Generate(&context, request);
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
    on_event(response);
  }
  const grpc::Status status = stream->Finish();
  const MutexLock lock(state_->mutex);
  state_->generating = nullptr;
  return FromGrpc(status);
}

bool Client::Cancel() {
  const MutexLock lock(state_->mutex);
  if (state_->generating != nullptr) {
    state_->generating->TryCancel();
  }
  return state_->generating != nullptr;
}

}  // namespace yangtuo
