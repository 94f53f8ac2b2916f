#pragma once

#include <cstddef>
#include <set>

#include "inference_core/base/mutex.h"
#include "yangtuo/internal/v1/inference.grpc.pb.h"

namespace yangtuo {

// A call that ends when somebody else says so.
class HeldCall {
 public:
  virtual ~HeldCall() = default;
  virtual void FinishWith(const grpc::Status& status) = 0;
};

// A service whose calls begin at once and end when the test says so or the server cancels them:
// Generate stands for a running stream, WatchStatus for one that lasts as long as the process.
// GetStatus answers at once, with the metadata "x-request-id" as the model and "traceparent" as the
// digest. Thread-safe.
class HeldCalls final : public internal::v1::InferenceService::CallbackService {
 public:
  grpc::ServerWriteReactor<internal::v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const internal::v1::GenerateRequest* request) override;
  grpc::ServerWriteReactor<internal::v1::WatchStatusResponse>* WatchStatus(
      grpc::CallbackServerContext* context,
      const internal::v1::WatchStatusRequest* request) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const internal::v1::GetStatusRequest* request,
                                      internal::v1::GetStatusResponse* response) override;

  // Blocks until so many calls of Generate and WatchStatus run.
  void AwaitRunning(std::size_t count) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends every running call with OK.
  void FinishAll() ABSL_LOCKS_EXCLUDED(mutex_);

  // For the calls themselves. Remove is true for the one who may finish the call.
  void Add(HeldCall& call) ABSL_LOCKS_EXCLUDED(mutex_);
  bool Remove(HeldCall& call) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Mutex mutex_;
  CondVar changed_;
  std::set<HeldCall*> running_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo
