#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "gateway/generation_flow.h"
#include "gateway/response_buffer.h"
#include "gateway/response_sink.h"
#include "gateway/timers.h"
#include "grpcpp/support/server_callback.h"
#include "inference_core/base/mutex.h"

namespace yangtuo::gateway {

// One client's Generate stream. Owns itself until OnDone; the flow shares it for as long as it may
// still want to flush. `Finish` is called once, when the flow has ended and nothing is in flight.
class GenerateWriter final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                             public ResponseSink,
                             public std::enable_shared_from_this<GenerateWriter> {
 public:
  static std::shared_ptr<GenerateWriter> Create(grpc::CallbackServerContext& context,
                                                std::size_t buffer_bytes, Timers& timers);

  // The flow that writes here; told when the client leaves.
  void Attach(std::shared_ptr<GenerationFlow> flow) ABSL_LOCKS_EXCLUDED(mutex_);

  SinkRoom Add(v1::GenerateResponse response) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Flush() override ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const absl::Status& status) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  GenerateWriter(grpc::CallbackServerContext& context, std::size_t buffer_bytes, Timers& timers)
      : buffer_bytes_(buffer_bytes), timers_(timers), context_(&context) {}

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone() override ABSL_LOCKS_EXCLUDED(mutex_);

  enum class Next { kNothing, kWrite, kFinish };
  // Decides under the lock what Act does after it.
  Next Decide() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Act(Next next);
  // After the end: cancels the call when nothing more was written for a while.
  void WatchUnread(std::uint64_t written) ABSL_LOCKS_EXCLUDED(mutex_);
  void CancelUnread() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::size_t buffer_bytes_;
  Timers& timers_;
  std::shared_ptr<GenerateWriter> self_;  // until OnDone

  Mutex mutex_;
  grpc::CallbackServerContext* context_ ABSL_GUARDED_BY(mutex_);  // null after OnDone
  std::shared_ptr<GenerationFlow> flow_ ABSL_GUARDED_BY(mutex_);
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool broken_ ABSL_GUARDED_BY(mutex_) = false;  // a write failed: nothing reaches the client
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::uint64_t written_ ABSL_GUARDED_BY(mutex_) = 0;  // messages, so far
  bool cancelling_ ABSL_GUARDED_BY(mutex_) = false;    // context_ is in use: not the time to finish
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  ResponseBuffer buffer_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);

  // Belongs to gRPC while writing_.
  v1::GenerateResponse in_flight_;
};

}  // namespace yangtuo::gateway
