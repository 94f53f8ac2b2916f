#pragma once

#include <memory>

#include "grpcpp/support/server_interceptor.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"

namespace yangtuo {

// Counts the calls that a draining server waits for. Owned by the RpcServer and outlives its
// grpc::Server; thread-safe.
//
// Calls that watch something last as long as the process, so waiting for them would make every
// drain take its whole limit: methods whose name starts with "Watch" and server reflection do not
// count.
class CallCounter {
 public:
  // For ServerBuilder::experimental().SetInterceptorCreators.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewInterceptorFactory();

  void Begin() ABSL_LOCKS_EXCLUDED(mutex_);
  void End() ABSL_LOCKS_EXCLUDED(mutex_);

  // Blocks until no call has been running for `quiet`, or until `deadline`.
  void WaitUntilIdle(Duration quiet, TimePoint deadline) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Mutex mutex_;
  CondVar changed_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  TimePoint idle_since_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo
