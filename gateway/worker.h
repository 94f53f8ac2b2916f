#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "gateway/call_scope.h"
#include "gateway/peer_discovery.h"
#include "gateway/worker_choice.h"
#include "grpcpp/channel.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/service_options.h"
#include "yangtuo/internal/v1/inference.grpc.pb.h"

namespace yangtuo::gateway {

// The leader of one worker group, as this gateway knows it: one channel, one WatchStatus stream
// that tells identity, load and readiness, and the token streams that run on it. Thread-safe.
// Shared by the pool, by leases and by the watch's reactor.
//
// A worker reports every second. One that is silent for `kSilenceLimit` is lost even if its
// connection looks alive (a hung process, a cut cable): its streams are aborted so that they can go
// on elsewhere.
class Worker : public std::enable_shared_from_this<Worker> {
 public:
  static constexpr Duration kSilenceLimit = std::chrono::milliseconds(2800);

  static absl::StatusOr<std::shared_ptr<Worker>> Connect(const PeerAddress& address,
                                                         const ClientTls& tls, LiveCalls& calls);

  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] internal::v1::InferenceService::StubInterface::async_interface& stub() {
    return *stub_->async();
  }
  [[nodiscard]] LiveCalls::Token EnterCall() { return calls_.Enter(); }

  // Opens the watch when there is none and finds silence. The pool calls it several times a second.
  void Tick(TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the watch for good.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

  // The last report, null before the first. It stays after a loss: a model that was here is known.
  [[nodiscard]] std::shared_ptr<const internal::v1::WorkerStatus> status() const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Connected, and reporting in time.
  [[nodiscard]] bool up() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Up, leads a complete group and takes new streams.
  [[nodiscard]] bool ready() const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] GroupLoad load() const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::uint32_t open_streams() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class WorkerLease;
  class Watch;

  Worker(std::string address, std::shared_ptr<grpc::Channel> channel, LiveCalls& calls);

  // From the watch's reactor.
  void OnStatus(const internal::v1::WorkerStatus& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWatchEnd(const grpc::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void AbortStreams(const std::string& why) ABSL_LOCKS_EXCLUDED(mutex_);

  // From leases. `abort` is called, without a lock held, when the worker is lost.
  std::uint64_t StreamStarted(std::uint64_t prompt_tokens, std::function<void()> abort)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void StreamEnded(std::uint64_t stream) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<internal::v1::InferenceService::Stub> stub_;
  LiveCalls& calls_;

  mutable Mutex mutex_;
  std::shared_ptr<grpc::ClientContext> watch_ ABSL_GUARDED_BY(mutex_);  // null: none is open
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool up_ ABSL_GUARDED_BY(mutex_) = false;
  TimePoint retry_at_ ABSL_GUARDED_BY(mutex_){};
  TimePoint last_report_ ABSL_GUARDED_BY(mutex_){};
  std::shared_ptr<const internal::v1::WorkerStatus> status_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t next_stream_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, std::function<void()>> streams_ ABSL_GUARDED_BY(mutex_);
  std::uint32_t started_since_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t prompt_tokens_since_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A place on a worker for the life of one stream: it counts in the worker's load, and hears of the
// worker's loss. Move-only; dropping it gives the place back.
class WorkerLease {
 public:
  WorkerLease(std::shared_ptr<Worker> worker, std::uint64_t prompt_tokens)
      : worker_(std::move(worker)), prompt_tokens_(prompt_tokens) {}
  WorkerLease(WorkerLease&& other) noexcept = default;
  WorkerLease& operator=(WorkerLease&& other) = delete;
  WorkerLease(const WorkerLease&) = delete;
  WorkerLease& operator=(const WorkerLease&) = delete;
  ~WorkerLease();

  [[nodiscard]] Worker& worker() const { return *worker_; }
  // Begins to count; `abort` runs, possibly more than once, when the worker is lost meanwhile.
  void Start(std::function<void()> abort);

 private:
  std::shared_ptr<Worker> worker_;
  std::uint64_t prompt_tokens_;
  std::optional<std::uint64_t> stream_;
};

}  // namespace yangtuo::gateway
