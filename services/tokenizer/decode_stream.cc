#include "services/tokenizer/decode_stream.h"

#include <utility>
#include <vector>

namespace yangtuo {
namespace {

grpc::Status Draining() {
  return {grpc::StatusCode::UNAVAILABLE, "this tokenizer is shutting down; use another one"};
}

}  // namespace

void DecodeStreams::Drain() {
  std::vector<std::shared_ptr<DecodeStream>> calls;
  {
    const MutexLock lock(mutex_);
    draining_ = true;
    calls.assign(calls_.begin(), calls_.end());
  }
  for (const std::shared_ptr<DecodeStream>& call : calls) {
    call->Drain();
  }
}

bool DecodeStreams::draining() const {
  const MutexLock lock(mutex_);
  return draining_;
}

void DecodeStreams::Insert(const std::shared_ptr<DecodeStream>& call) {
  const MutexLock lock(mutex_);
  calls_.insert(call);
}

void DecodeStreams::Erase(const std::shared_ptr<DecodeStream>& call) {
  const MutexLock lock(mutex_);
  calls_.erase(call);
}

DecodeStream::DecodeStream(const Dependencies& dependencies,
                           const grpc::CallbackServerContext& context)
    : context_(context),
      metrics_(dependencies.metrics),
      calls_(dependencies.calls),
      streams_(dependencies.registry, dependencies.metrics, dependencies.max_streams) {}

DecodeStream* DecodeStream::Start(const Dependencies& dependencies,
                                  const grpc::CallbackServerContext& context) {
  const std::shared_ptr<DecodeStream> call(new DecodeStream(dependencies, context));
  call->self_ = call;
  dependencies.calls.Insert(call);
  // Asked after Insert: a drain that begins in between reaches the call by one way or the other.
  if (dependencies.calls.draining()) {
    call->Drain();
  }
  call->ReadNext();
  return call.get();
}

void DecodeStream::Drain() {
  bool finish = false;
  {
    const MutexLock lock(mutex_);
    draining_ = true;
    finish = idle_ && BeginFinish(Draining());
  }
  if (finish) {
    Finish(Draining());
  }
}

void DecodeStream::ReadNext() {
  bool finish = false;
  {
    const MutexLock lock(mutex_);
    idle_ = streams_.empty();
    finish = idle_ && draining_ && BeginFinish(Draining());
    if (finished_ && !finish) {
      return;
    }
  }
  if (finish) {
    Finish(Draining());
  } else {
    StartRead(&request_);
  }
}

void DecodeStream::OnReadDone(bool ok) {
  {
    const MutexLock lock(mutex_);
    idle_ = false;
    if (finished_) {
      return;
    }
  }
  if (!ok) {
    FinishOnce(grpc::Status::OK);  // the client has no more; what it left open is forgotten
    return;
  }
  streams_.Answer(request_, response_);
  StartWrite(&response_);
}

void DecodeStream::OnWriteDone(bool ok) {
  if (ok) {
    ReadNext();
  } else {
    FinishOnce({grpc::StatusCode::CANCELLED, "the client is gone"});
  }
}

bool DecodeStream::BeginFinish(grpc::Status status) {
  if (std::exchange(finished_, true)) {
    return false;
  }
  status_ = std::move(status);
  return true;
}

void DecodeStream::FinishOnce(grpc::Status status) {
  bool finish = false;
  {
    const MutexLock lock(mutex_);
    finish = BeginFinish(status);
  }
  if (finish) {
    Finish(std::move(status));
  }
}

void DecodeStream::OnDone() {
  grpc::Status status;
  {
    const MutexLock lock(mutex_);
    status = status_;
  }
  metrics_.CountCall("DecodeStream", status, context_);
  calls_.Erase(self_);
  const std::shared_ptr<DecodeStream> last = std::move(self_);
}

}  // namespace yangtuo
