#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "inference_core/base/mutex.h"
#include "services/inference/peer_pulse.h"
#include "services/inference/shard_frame.h"
#include "services/inference/shard_host.h"
#include "services/inference/ticker.h"
#include "yangtuo/internal/v1/shard.pb.h"

namespace yangtuo {

// The called end of one Run stream. Reads go to the host, which answers through ShardCaller from
// its own threads.
//
// Lifetime: owns itself from Start until OnDone; the host, relayed results and the ticker share it.
// `End` is the only way to Finish, and gRPC calls OnDone only after that.
class ShardStream final
    : public grpc::ServerBidiReactor<internal::v1::RunRequest, internal::v1::RunResponse>,
      public ShardCaller,
      public Ticking,
      public std::enable_shared_from_this<ShardStream> {
 public:
  ShardStream(ShardHost& host, const ShardTiming& timing);

  // The reactor to return to gRPC.
  static ShardStream* Start(ShardHost& host, const ShardTiming& timing, Ticker& ticker);

  void Welcome(const internal::v1::Welcome& welcome) override ABSL_LOCKS_EXCLUDED(mutex_);
  void Answer(const internal::v1::StepResponse& response) override ABSL_LOCKS_EXCLUDED(mutex_);
  void End(const absl::Status& status) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnTick(TimePoint now) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  enum class Act { kNothing, kWrite, kFinish };

  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone() override;

  absl::Status Take(const internal::v1::RunRequest& message) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status TakeHello(const internal::v1::Hello& hello) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status TakeFrame(const internal::v1::Frame& frame) ABSL_LOCKS_EXCLUDED(mutex_);
  void Seal(internal::v1::FrameKind kind, std::string payload)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What the caller must do after releasing the lock.
  Act Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Do(Act act) ABSL_LOCKS_EXCLUDED(mutex_);

  ShardHost& host_;
  ShardTiming timing_;
  std::shared_ptr<ShardStream> self_;

  mutable Mutex mutex_;
  PeerPulse pulse_ ABSL_GUARDED_BY(mutex_);
  FrameSealer sealer_ ABSL_GUARDED_BY(mutex_);
  std::deque<internal::v1::RunResponse> outbox_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool welcomed_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
  std::uint64_t steps_received_ ABSL_GUARDED_BY(mutex_) = 0;
  std::uint64_t steps_answered_ ABSL_GUARDED_BY(mutex_) = 0;

  // Of reads, which come one at a time.
  bool greeted_ = false;
  std::uint64_t last_step_id_ = 0;
  FrameVerifier verifier_;
  internal::v1::RunRequest incoming_;    // belongs to gRPC from StartRead to OnReadDone
  internal::v1::RunResponse in_flight_;  // belongs to gRPC from StartWrite to OnWriteDone
};

}  // namespace yangtuo
