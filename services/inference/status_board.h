#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "inference_core/base/mutex.h"
#include "services/inference/ticker.h"
#include "yangtuo/internal/v1/inference.pb.h"

namespace yangtuo {

// The worker's status for whoever watches it: at once, on every change of readiness, and every
// second. Thread-safe; outlives the server whose calls watch it.
class StatusBoard final : public Ticking {
 public:
  // `read` must be thread-safe and must not block.
  explicit StatusBoard(std::function<internal::v1::WorkerStatus()> read);
  ~StatusBoard() override;

  [[nodiscard]] internal::v1::WorkerStatus Read() const { return read_(); }
  // The reactor of a WatchStatus call.
  grpc::ServerWriteReactor<internal::v1::WatchStatusResponse>* Watch() ABSL_LOCKS_EXCLUDED(mutex_);
  // Shows the present status and ends all watching calls, present and future, with `status`.
  void Close(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  void OnTick(TimePoint now) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Watcher;
  std::vector<std::shared_ptr<Watcher>> Watchers() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::function<internal::v1::WorkerStatus()> read_;
  // Ticker thread only.
  TimePoint last_shown_{};
  bool was_ready_ = false;
  bool was_draining_ = false;

  Mutex mutex_;
  std::vector<std::weak_ptr<Watcher>> watchers_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo
