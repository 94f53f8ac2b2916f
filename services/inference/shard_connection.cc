#include "services/inference/shard_connection.h"

#include <deque>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "grpcpp/client_context.h"
#include "grpcpp/support/client_callback.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/status.h"
#include "services/inference/peer_pulse.h"
#include "services/inference/shard_codec.h"
#include "services/inference/shard_frame.h"
#include "yangtuo/internal/v1/shard.grpc.pb.h"

namespace yangtuo {

namespace pb = internal::v1;

// The reactor. It owns itself from Start until OnDone; the connection, which outlives OnDone, and
// the ticker share it, so that none of them can meet a dead object.
//
// gRPC needs a hold while operations start outside of reactions. It is given back when nothing will
// be written any more: the stream is lost or ending, and no write is in progress.
class ShardConnection::Call final : public grpc::ClientBidiReactor<pb::RunRequest, pb::RunResponse>,
                                    public Ticking,
                                    public std::enable_shared_from_this<Call> {
 public:
  Call(const ShardPeer& peer, const pb::Hello& hello, ShardEvents events)
      : address_(peer.address),
        events_(std::move(events)),
        hello_(hello),
        stub_(pb::ShardService::NewStub(peer.channel)),
        pulse_(peer.timing, std::chrono::steady_clock::now()) {}

  void Start() {
    self_ = shared_from_this();
    // Waits for a peer that is just starting; the attempt's own limit bounds the wait.
    context_.set_wait_for_ready(true);
    stub_->async()->Run(&context_, this);
    AddHold();
    in_flight_.mutable_hello()->CopyFrom(hello_);
    StartWrite(&in_flight_);
    StartRead(&incoming_);
    StartCall();
  }

  absl::StatusOr<pb::Welcome> WaitForWelcome(TimePoint deadline) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      const MutexLock lock(mutex_);
      while (!welcome_.has_value() && !lost_.has_value() &&
             std::chrono::steady_clock::now() < deadline) {
        changed_.WaitUntil(mutex_, deadline);
      }
      // A shard that was only asked what it is ends the stream right after its welcome.
      if (welcome_.has_value()) {
        return *welcome_;
      }
      if (lost_.has_value()) {
        return *lost_;
      }
    }
    Lose(absl::UnavailableError("no answer to the handshake within the limit"));
    return status();
  }

  // gRPC touches the call no more afterwards. Soon after Lose.
  void WaitUntilDone() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    while (!done_) {
      changed_.Wait(mutex_);
    }
  }

  absl::Status Send(const Step& step) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::string payload = EncodeStep(step).SerializeAsString();
    const TimePoint now = std::chrono::steady_clock::now();
    bool start = false;
    {
      const MutexLock lock(mutex_);
      if (lost_.has_value()) {
        return *lost_;
      }
      pulse_.StepSent(step.id, now);
      start = Enqueue(pb::FRAME_KIND_STEP, std::move(payload), now);
    }
    if (start) {
      StartWrite(&in_flight_);
    }
    return absl::OkStatus();
  }

  absl::Status status() const ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    return lost_.value_or(absl::OkStatus());
  }

  // Ends the stream; the first reason stays. Cancelling makes the operations in progress return.
  void Lose(absl::Status why) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::Status reason(
        why.code(), absl::StrFormat("shard at %s: %s", address_, std::string(why.message())));
    absl::Status kept = reason;
    why.ForEachPayload([&kept](absl::string_view url, const absl::Cord& payload) {
      kept.SetPayload(url, payload);
    });
    bool release = false;
    {
      const MutexLock lock(mutex_);
      if (lost_.has_value()) {
        return;
      }
      lost_ = kept;
      outbox_.clear();
      release = TakeHold();
    }
    changed_.NotifyAll();
    context_.TryCancel();
    if (events_.on_lost) {
      events_.on_lost(kept);
    }
    if (release) {
      RemoveHold();
    }
  }

  void OnTick(TimePoint now) override ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::Status health;
    bool start = false;
    {
      const MutexLock lock(mutex_);
      if (lost_.has_value() || !welcome_.has_value()) {
        return;
      }
      health = pulse_.Check(now);
      if (health.ok() && !writing_ && pulse_.HeartbeatDue(now)) {
        start = Enqueue(pb::FRAME_KIND_HEARTBEAT, pb::Heartbeat().SerializeAsString(), now);
      }
    }
    if (start) {
      StartWrite(&in_flight_);
    }
    if (!health.ok()) {
      Lose(health);
    }
  }

 private:
  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_) {
    if (!ok) {  // The stream is over; OnDone says why.
      bool release = false;
      {
        const MutexLock lock(mutex_);
        ending_ = true;
        outbox_.clear();
        release = TakeHold();
      }
      if (release) {
        RemoveHold();
      }
      return;
    }
    if (const absl::Status taken = Take(incoming_); !taken.ok()) {
      Lose(taken);
      return;
    }
    StartRead(&incoming_);
  }

  void OnWriteDone(bool /*ok*/) override ABSL_LOCKS_EXCLUDED(mutex_) {
    // A failed write means a broken stream; the read in progress fails as well and reports it.
    bool start = false;
    bool release = false;
    {
      const MutexLock lock(mutex_);
      writing_ = false;
      start = TakeNext();
      release = TakeHold();
    }
    if (start) {
      StartWrite(&in_flight_);
    }
    if (release) {
      RemoveHold();
    }
  }

  void OnDone(const grpc::Status& status) override ABSL_LOCKS_EXCLUDED(mutex_) {
    Lose(status.ok() ? absl::UnavailableError("ended the stream") : FromGrpc(status));
    // The connection waits for `done_`, so this is not the last owner.
    self_.reset();
    const MutexLock lock(mutex_);
    done_ = true;
    changed_.NotifyAll();
  }

  absl::Status Take(pb::RunResponse& message) ABSL_LOCKS_EXCLUDED(mutex_) {
    const TimePoint now = std::chrono::steady_clock::now();
    if (message.has_welcome()) {
      return TakeWelcome(message.welcome(), now);
    }
    if (!message.has_frame()) {
      return absl::DataLossError("message without content");
    }
    const pb::Frame& frame = message.frame();
    YANGTUO_RETURN_IF_ERROR(verifier_.Check(frame));
    if (frame.kind() == pb::FRAME_KIND_HEARTBEAT) {
      pb::Heartbeat heartbeat;
      if (!heartbeat.ParseFromString(frame.payload())) {
        return absl::DataLossError("heartbeat does not parse");
      }
      const MutexLock lock(mutex_);
      pulse_.Heard(now);
      pulse_.Counters(heartbeat.steps_received(), heartbeat.steps_answered(), now);
      return absl::OkStatus();
    }
    pb::StepResponse response;
    if (frame.kind() != pb::FRAME_KIND_RESULT || !response.ParseFromString(frame.payload())) {
      return absl::DataLossError(absl::StrFormat("frame %d is no result", frame.number()));
    }
    {
      const MutexLock lock(mutex_);
      if (lost_.has_value()) {
        return *lost_;
      }
      pulse_.Heard(now);
      YANGTUO_RETURN_IF_ERROR(pulse_.StepAnswered(response.step_id(), now));
    }
    if (events_.on_result) {
      events_.on_result(std::move(response));
    }
    return absl::OkStatus();
  }

  absl::Status TakeWelcome(const pb::Welcome& welcome, TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_) {
    YANGTUO_RETURN_IF_ERROR(CheckWelcome(welcome, hello_));
    {
      const MutexLock lock(mutex_);
      if (welcome_.has_value()) {
        return absl::DataLossError("a second welcome");
      }
      welcome_ = welcome;
      pulse_.Heard(now);
    }
    changed_.NotifyAll();
    return absl::OkStatus();
  }

  // True: the caller must start a write.
  bool Enqueue(pb::FrameKind kind, std::string payload, TimePoint now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    *outbox_.emplace_back().mutable_frame() = sealer_.Seal(kind, std::move(payload));
    pulse_.Sent(now);
    return !writing_ && TakeNext();
  }

  bool TakeNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (outbox_.empty() || lost_.has_value() || ending_) {
      return false;
    }
    in_flight_ = std::move(outbox_.front());
    outbox_.pop_front();
    writing_ = true;
    return true;
  }

  // True once, when the hold can be given back: the caller must remove it.
  bool TakeHold() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || !holding_ || (!lost_.has_value() && !ending_)) {
      return false;
    }
    holding_ = false;
    return true;
  }

  const std::string address_;
  const ShardEvents events_;
  const pb::Hello hello_;
  const std::unique_ptr<pb::ShardService::Stub> stub_;
  grpc::ClientContext context_;
  std::shared_ptr<Call> self_;

  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<pb::Welcome> welcome_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> lost_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = true;  // the hello
  bool holding_ ABSL_GUARDED_BY(mutex_) = true;
  FrameSealer sealer_ ABSL_GUARDED_BY(mutex_);
  PeerPulse pulse_ ABSL_GUARDED_BY(mutex_);
  std::deque<pb::RunRequest> outbox_ ABSL_GUARDED_BY(mutex_);

  FrameVerifier verifier_;    // of reads, which come one at a time
  pb::RunResponse incoming_;  // belongs to gRPC from StartRead to OnReadDone
  pb::RunRequest in_flight_;  // belongs to gRPC from StartWrite to OnWriteDone
};

absl::StatusOr<std::unique_ptr<ShardConnection>> ShardConnection::Open(const ShardPeer& peer,
                                                                       const pb::Hello& hello,
                                                                       ShardEvents events) {
  const auto call = std::make_shared<Call>(peer, hello, std::move(events));
  call->Start();
  std::unique_ptr<ShardConnection> connection(new ShardConnection(call));
  YANGTUO_ASSIGN_OR_RETURN(
      connection->welcome_,
      call->WaitForWelcome(std::chrono::steady_clock::now() + peer.timing.attempt_limit));
  peer.ticker->Add(call);
  return connection;
}

ShardConnection::ShardConnection(std::shared_ptr<Call> call) : call_(std::move(call)) {}

// Waits, because a call that ended on gRPC's thread as the last owner of its channel would take the
// process's callback threads down from within one of them.
ShardConnection::~ShardConnection() {
  call_->Lose(absl::CancelledError("dropped by the caller"));
  call_->WaitUntilDone();
}

absl::Status ShardConnection::Send(const Step& step) { return call_->Send(step); }

absl::Status ShardConnection::status() const { return call_->status(); }

absl::StatusOr<pb::Welcome> DescribeShard(const ShardPeer& peer) {
  const pb::Hello hello = MakeHello(peer.expected, 0, peer.own_rank, peer.timing.heartbeat);
  YANGTUO_ASSIGN_OR_RETURN(const std::unique_ptr<ShardConnection> connection,
                           ShardConnection::Open(peer, hello, {}));
  return connection->welcome();
}

absl::Status AsUnavailable(const absl::Status& lost) {
  if (absl::IsUnavailable(lost)) {
    return lost;
  }
  return absl::UnavailableError(absl::StrFormat("%s (%s)", std::string(lost.message()),
                                                absl::StatusCodeToString(lost.code())));
}

StageInfo StageBehind(const ShardPeer& peer, const pb::Welcome& welcome) {
  StageInfo info = peer.expected;
  info.kv_blocks = static_cast<std::int32_t>(welcome.kv_blocks());
  info.depth = static_cast<std::int32_t>(welcome.shards());
  info.constrains = welcome.constrains();
  return info;
}

}  // namespace yangtuo
