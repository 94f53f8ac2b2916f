#include "tests/services/common/held_calls.h"

#include "services/common/request_context.h"

namespace yangtuo {
namespace {

template <typename Response>
class HeldStream final : public grpc::ServerWriteReactor<Response>, public HeldCall {
 public:
  explicit HeldStream(HeldCalls& calls) : calls_(calls) {
    calls_.Add(*this);
    this->StartSendInitialMetadata();
  }
  void FinishWith(const grpc::Status& status) override { this->Finish(status); }

 private:
  void OnCancel() override {
    if (calls_.Remove(*this)) {
      this->Finish(grpc::Status::CANCELLED);
    }
  }
  void OnDone() override { delete this; }

  HeldCalls& calls_;
};

}  // namespace

grpc::ServerWriteReactor<internal::v1::GenerateResponse>* HeldCalls::Generate(
    grpc::CallbackServerContext*, const internal::v1::GenerateRequest*) {
  return new HeldStream<internal::v1::GenerateResponse>(*this);
}

grpc::ServerWriteReactor<internal::v1::WatchStatusResponse>* HeldCalls::WatchStatus(
    grpc::CallbackServerContext*, const internal::v1::WatchStatusRequest*) {
  return new HeldStream<internal::v1::WatchStatusResponse>(*this);
}

grpc::ServerUnaryReactor* HeldCalls::GetStatus(grpc::CallbackServerContext* context,
                                               const internal::v1::GetStatusRequest*,
                                               internal::v1::GetStatusResponse* response) {
  const RequestContext request = RequestContext::FromServer(*context);
  response->mutable_status()->set_model(request.request_id);
  response->mutable_status()->set_model_digest(request.traceparent);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

void HeldCalls::AwaitRunning(std::size_t count) {
  const MutexLock lock(mutex_);
  while (running_.size() != count) {
    changed_.Wait(mutex_);
  }
}

void HeldCalls::FinishAll() {
  std::set<HeldCall*> finished;
  {
    const MutexLock lock(mutex_);
    finished.swap(running_);
  }
  changed_.NotifyAll();
  for (HeldCall* call : finished) {
    call->FinishWith(grpc::Status::OK);
  }
}

void HeldCalls::Add(HeldCall& call) {
  const MutexLock lock(mutex_);
  running_.insert(&call);
  changed_.NotifyAll();
}

bool HeldCalls::Remove(HeldCall& call) {
  const MutexLock lock(mutex_);
  changed_.NotifyAll();
  return running_.erase(&call) > 0;
}

}  // namespace yangtuo
