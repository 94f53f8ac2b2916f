#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gateway/access/caller.h"
#include "grpcpp/client_context.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/request_context.h"
#include "services/common/tracer.h"

namespace yangtuo::gateway {

// Counts the calls that are open towards peers, so that the process can wait for the last of them
// before it takes apart what their reactions use. Thread-safe.
class LiveCalls : public std::enable_shared_from_this<LiveCalls> {
 public:
  // Counts as one call until it is dropped.
  using Token = std::shared_ptr<void>;
  Token Enter() ABSL_LOCKS_EXCLUDED(mutex_);

  // False when calls are still open at the end of `limit`.
  bool WaitForNone(Duration limit) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Mutex mutex_;
  CondVar none_;
  std::uint64_t open_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What all outgoing calls of one incoming request share: identity, for whom, deadline, span, and
// the wish to stop. Thread-safe.
class CallScope {
 public:
  using Deadline = std::chrono::system_clock::time_point;

  // A caller of null is nobody in particular, who may do everything.
  CallScope(RequestContext context, Deadline deadline,
            std::shared_ptr<const Caller> caller = nullptr, Span span = {})
      : context_(std::move(context)),
        deadline_(deadline),
        caller_(caller != nullptr ? std::move(caller) : std::make_shared<Caller>()),
        span_(std::move(span)) {}

  [[nodiscard]] const RequestContext& context() const { return context_; }
  [[nodiscard]] const Caller& caller() const { return *caller_; }
  // Of the incoming request.
  [[nodiscard]] const Span& span() const { return span_; }
  [[nodiscard]] Deadline deadline() const { return deadline_; }
  [[nodiscard]] bool expired() const { return std::chrono::system_clock::now() >= deadline_; }
  [[nodiscard]] bool cancelled() const ABSL_LOCKS_EXCLUDED(mutex_);

  // A context for one call: identity and the earlier of both deadlines set. It is cancelled with
  // the scope until Forget. `callee` is whom the call's span names, "service/method" at "address".
  struct Callee {
    std::string method;
    std::string address;
  };
  std::shared_ptr<grpc::ClientContext> Open(const Callee& callee,
                                            Deadline call_deadline = Deadline::max())
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The call is over, with `status`.
  void Forget(const grpc::ClientContext* context, const absl::Status& status)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Cancels all open calls and those that are opened later. Hold no lock: reactions may run inside.
  void Cancel() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct OpenCall {
    std::shared_ptr<grpc::ClientContext> context;
    Span span;
  };

  const RequestContext context_;
  const Deadline deadline_;
  const std::shared_ptr<const Caller> caller_;
  const Span span_;
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<const grpc::ClientContext*, OpenCall> open_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::gateway
