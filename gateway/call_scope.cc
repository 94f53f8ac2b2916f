#include "gateway/call_scope.h"

#include <algorithm>
#include <utility>

namespace yangtuo::gateway {

LiveCalls::Token LiveCalls::Enter() {
  {
    const MutexLock lock(mutex_);
    ++open_;
  }
  // The deleter keeps this object alive until it has counted down.
  return Token(nullptr, [self = shared_from_this()](void*) {
    const MutexLock lock(self->mutex_);
    if (--self->open_ == 0) {
      self->none_.NotifyAll();
    }
  });
}

bool LiveCalls::WaitForNone(Duration limit) {
  const TimePoint end = std::chrono::steady_clock::now() + limit;
  const MutexLock lock(mutex_);
  while (open_ > 0 && std::chrono::steady_clock::now() < end) {
    none_.WaitUntil(mutex_, end);
  }
  return open_ == 0;
}

bool CallScope::cancelled() const {
  const MutexLock lock(mutex_);
  return cancelled_;
}

std::shared_ptr<grpc::ClientContext> CallScope::Open(const Callee& callee, Deadline call_deadline) {
  auto context = std::make_shared<grpc::ClientContext>();
  const Span span = span_.Child(callee.method, SpanKind::kClient);
  span.Set("rpc.system", std::string("grpc"));
  span.Set("server.address", callee.address);
  ContextWithin(context_, span).ApplyTo(*context);
  const Deadline deadline = std::min(call_deadline, deadline_);
  if (deadline != Deadline::max()) {
    context->set_deadline(deadline);
  }
  bool cancelled = false;
  {
    const MutexLock lock(mutex_);
    cancelled = cancelled_;
    if (!cancelled) {
      open_.emplace(context.get(), OpenCall{.context = context, .span = span});
    }
  }
  if (cancelled) {
    context->TryCancel();
  }
  return context;
}

void CallScope::Forget(const grpc::ClientContext* context, const absl::Status& status) {
  OpenCall dropped;  // destroyed after the lock is free
  {
    const MutexLock lock(mutex_);
    if (const auto found = open_.find(context); found != open_.end()) {
      dropped = std::move(found->second);
      open_.erase(found);
    }
  }
  dropped.span.End(status);
}

void CallScope::Cancel() {
  std::map<const grpc::ClientContext*, OpenCall> open;
  {
    const MutexLock lock(mutex_);
    cancelled_ = true;
    open.swap(open_);
  }
  for (const auto& [key, call] : open) {
    call.span.End(absl::CancelledError("the request is over"));
    call.context->TryCancel();
  }
}

}  // namespace yangtuo::gateway
