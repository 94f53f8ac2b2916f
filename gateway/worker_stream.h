#pragma once

#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gateway/call_scope.h"
#include "gateway/worker.h"
#include "inference_core/base/mutex.h"
#include "yangtuo/internal/v1/inference.pb.h"

namespace yangtuo::gateway {

// What one token stream of a worker tells. Called from gRPC's threads, one call at a time, and
// nothing after OnStreamEnd. May take what it wants out of the messages.
class WorkerStreamEvents {
 public:
  virtual ~WorkerStreamEvents() = default;
  virtual void OnStreamDelta(internal::v1::GenerateDelta& delta) = 0;
  // Once, last. `finished` is set if and only if the status is OK. A worker that is lost, or that
  // ends a stream which nobody cancelled, is UNAVAILABLE.
  virtual void OnStreamEnd(const absl::Status& status,
                           const internal::v1::GenerateFinished* finished) = 0;
};

// One running Generate call to a worker. Destroying the handle cancels the call; the events go on
// until OnStreamEnd, for which the call keeps `events` alive. Thread-safe.
class WorkerStream {
 public:
  static std::unique_ptr<WorkerStream> Start(WorkerLease lease,
                                             internal::v1::GenerateRequest request,
                                             const std::shared_ptr<CallScope>& scope,
                                             std::shared_ptr<WorkerStreamEvents> events);
  ~WorkerStream() { Cancel(); }
  WorkerStream(const WorkerStream&) = delete;
  WorkerStream& operator=(const WorkerStream&) = delete;

  // Reactions may run inside: hold no lock.
  void Cancel();

 private:
  class Call;
  struct Shared;
  explicit WorkerStream(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  std::shared_ptr<Shared> shared_;
};

}  // namespace yangtuo::gateway
