#include "gateway/worker_stream.h"

#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "services/common/status.h"

namespace yangtuo::gateway {

// What the handle, the call and the worker's loss share.
struct WorkerStream::Shared {
  std::shared_ptr<grpc::ClientContext> context;
  std::atomic<bool> lost = false;
  std::atomic<bool> given_up = false;  // by us: nobody needs its end any more
};

// Owns itself until OnDone.
class WorkerStream::Call final : public grpc::ClientReadReactor<internal::v1::GenerateResponse> {
 public:
  Call(WorkerLease lease, internal::v1::GenerateRequest request, std::shared_ptr<CallScope> scope,
       std::shared_ptr<WorkerStreamEvents> events)
      : lease_(std::move(lease)),
        call_(lease_.worker().EnterCall()),
        request_(std::move(request)),
        scope_(std::move(scope)),
        events_(std::move(events)),
        shared_(std::make_shared<Shared>()) {
    shared_->context = scope_->Open({.method = "yangtuo.internal.v1.InferenceService/Generate",
                                     .address = lease_.worker().address()});
  }

  [[nodiscard]] std::shared_ptr<Shared> shared() const { return shared_; }

  void Begin() {
    lease_.Start([shared = shared_] {
      shared->lost = true;
      shared->context->TryCancel();
    });
    lease_.worker().stub().Generate(shared_->context.get(), &request_, this);
    StartRead(&response_);
    StartCall();
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      return;  // OnDone says why
    }
    switch (response_.event_case()) {
      case internal::v1::GenerateResponse::kDelta:
        if (response_.delta().ids_size() > 0) {
          lease_.OnTokens(static_cast<std::uint64_t>(response_.delta().ids_size()));
        }
        events_->OnStreamDelta(*response_.mutable_delta());
        break;
      case internal::v1::GenerateResponse::kFinished:
        finished_ = response_.finished();
        break;
      case internal::v1::GenerateResponse::EVENT_NOT_SET:
        break;
    }
    StartRead(&response_);
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status ended = Judge(status);
    const internal::v1::GenerateFinished* finished = finished_.has_value() ? &*finished_ : nullptr;
    // A stream whose last message arrived is complete, however its connection ended.
    if (finished != nullptr) {
      ended = absl::OkStatus();
    }
    // A stream that was ended here says nothing about how its worker treats streams.
    if (ended.ok() || !shared_->lost) {
      lease_.OnEnd(ended);
    }
    scope_->Forget(shared_->context.get(),
                   shared_->given_up ? absl::CancelledError("its end was not needed") : ended);
    events_->OnStreamEnd(ended, finished);
    delete this;
  }

  [[nodiscard]] absl::Status Judge(const grpc::Status& status) const {
    const std::string& address = lease_.worker().address();
    if (shared_->lost) {
      return absl::UnavailableError(absl::StrFormat("worker %s stopped answering", address));
    }
    if (status.ok()) {
      return absl::UnavailableError(
          absl::StrFormat("worker %s ended a stream without its last message", address));
    }
    if (status.error_code() == grpc::StatusCode::CANCELLED && !scope_->cancelled()) {
      return absl::UnavailableError(
          absl::StrFormat("worker %s gave a stream up: %s", address, status.error_message()));
    }
    return FromGrpc(status);
  }

  WorkerLease lease_;
  const LiveCalls::Token call_;
  const internal::v1::GenerateRequest request_;
  const std::shared_ptr<CallScope> scope_;
  const std::shared_ptr<WorkerStreamEvents> events_;
  const std::shared_ptr<Shared> shared_;
  internal::v1::GenerateResponse response_;
  std::optional<internal::v1::GenerateFinished> finished_;
};

std::unique_ptr<WorkerStream> WorkerStream::Start(WorkerLease lease,
                                                  internal::v1::GenerateRequest request,
                                                  const std::shared_ptr<CallScope>& scope,
                                                  std::shared_ptr<WorkerStreamEvents> events) {
  auto* call = new Call(std::move(lease), std::move(request), scope, std::move(events));
  std::unique_ptr<WorkerStream> handle(new WorkerStream(call->shared()));
  call->Begin();
  return handle;
}

void WorkerStream::Cancel() {
  shared_->given_up = true;
  shared_->context->TryCancel();
}

}  // namespace yangtuo::gateway
