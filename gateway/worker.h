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
#include "gateway/circuit_breaker.h"
#include "gateway/group_pace.h"
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
// on elsewhere. One that waits for a lost shard of its group keeps them, unless the pool has
// another group for them when that takes longer than `kIncompleteLimit`.
class Worker : public std::enable_shared_from_this<Worker> {
 public:
  static constexpr Duration kSilenceLimit = std::chrono::milliseconds(2800);
  static constexpr Duration kIncompleteLimit = std::chrono::seconds(1);

  static absl::StatusOr<std::shared_ptr<Worker>> Connect(const PeerAddress& address,
                                                         const ClientTls& tls, LiveCalls& calls,
                                                         const CircuitBreaker::Limits& breaker);

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
  // Has streams, and for longer than kIncompleteLimit no complete group that computes them.
  [[nodiscard]] bool holds_up_streams(TimePoint now) const ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends them, so that they go on elsewhere.
  void AbortStreams(const std::string& why) ABSL_LOCKS_EXCLUDED(mutex_);

  // Names this worker from one connection to the next loss; never 0, never given twice.
  [[nodiscard]] std::uint64_t life() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether its circuit breaker keeps streams away from it now, and until when it would.
  [[nodiscard]] std::optional<TimePoint> kept_away_until(TimePoint now) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // The least time that an answer of `tokens` takes after this many prompt tokens of its own;
  // nothing when too little is known.
  [[nodiscard]] std::optional<Duration> LeastTime(TimePoint now, std::uint64_t prompt_tokens,
                                                  std::uint64_t tokens) const
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class WorkerLease;
  class Watch;
  struct OpenStream {
    std::function<void()> abort;
    std::uint64_t reports;  // when it began
    std::uint64_t prompt_tokens;
  };

  Worker(std::string address, std::shared_ptr<grpc::Channel> channel, LiveCalls& calls,
         const CircuitBreaker::Limits& breaker);

  // From the watch's reactor.
  void OnStatus(const internal::v1::WorkerStatus& status) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWatchEnd(const grpc::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  // From leases. `abort` is called, without a lock held, when the worker is lost.
  std::uint64_t StreamStarted(std::uint64_t prompt_tokens, std::function<void()> abort)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void StreamEnded(std::uint64_t stream) ABSL_LOCKS_EXCLUDED(mutex_);
  // Prompt tokens that wait to be computed, as reported and since.
  [[nodiscard]] std::uint64_t PendingPromptTokens() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

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
  std::optional<TimePoint> incomplete_since_ ABSL_GUARDED_BY(mutex_);  // as it reports
  std::shared_ptr<const internal::v1::WorkerStatus> status_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t next_stream_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, OpenStream> streams_ ABSL_GUARDED_BY(mutex_);
  // Since the last report, and still open.
  std::uint64_t reports_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint32_t started_since_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t prompt_tokens_since_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t life_ ABSL_GUARDED_BY(mutex_);
  CircuitBreaker breaker_ ABSL_GUARDED_BY(mutex_);
  GroupPace pace_ ABSL_GUARDED_BY(mutex_);
};

// A place on a worker for the life of one stream: it counts in the worker's load, hears of the
// worker's loss, and tells the worker's breaker and pace how the stream went. Move-only; dropping
// it gives the place back. One thread at a time.
class WorkerLease {
 public:
  // `prompt_tokens`: those that the worker has to compute.
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
  void OnTokens(std::uint64_t tokens);
  // How it ended; OK: complete.
  void OnEnd(const absl::Status& status);

 private:
  std::shared_ptr<Worker> worker_;
  std::uint64_t prompt_tokens_;
  std::optional<std::uint64_t> stream_;
  std::uint64_t tokens_before_ = 0;        // prompt tokens until the first token, others' included
  TimePoint since_{};                      // of the start, then of the last measured token
  std::optional<std::uint64_t> measured_;  // tokens since then; absent before the first token
};

}  // namespace yangtuo::gateway
