#include "services/inference/shard_stream.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo {

namespace pb = internal::v1;

ShardStream::ShardStream(ShardHost& host, const ShardTiming& timing)
    : host_(host), timing_(timing), pulse_(timing, std::chrono::steady_clock::now()) {}

ShardStream* ShardStream::Start(ShardHost& host, const ShardTiming& timing, Ticker& ticker) {
  const auto stream = std::make_shared<ShardStream>(host, timing);
  stream->self_ = stream;
  ticker.Add(stream);
  stream->StartRead(&stream->incoming_);
  return stream.get();
}

void ShardStream::Welcome(const pb::Welcome& welcome) {
  Act act = Act::kNothing;
  {
    const MutexLock lock(mutex_);
    if (ended_.has_value()) {
      return;
    }
    *outbox_.emplace_back().mutable_welcome() = welcome;
    welcomed_ = true;
    // Forming the group took its time; the caller's silence counts from here.
    pulse_ = PeerPulse(timing_, std::chrono::steady_clock::now());
    act = Advance();
  }
  Do(act);
}

void ShardStream::Answer(const pb::StepResponse& response) {
  std::string payload = response.SerializeAsString();
  Act act = Act::kNothing;
  {
    const MutexLock lock(mutex_);
    if (ended_.has_value()) {
      return;
    }
    ++steps_answered_;
    Seal(pb::FRAME_KIND_RESULT, std::move(payload));
    act = Advance();
  }
  Do(act);
}

void ShardStream::End(const absl::Status& status) {
  Act act = Act::kNothing;
  {
    const MutexLock lock(mutex_);
    if (ended_.has_value()) {
      return;
    }
    ended_ = status;
    act = Advance();
  }
  Do(act);
}

void ShardStream::OnTick(TimePoint now) {
  absl::Status health;
  Act act = Act::kNothing;
  {
    const MutexLock lock(mutex_);
    if (ended_.has_value()) {
      return;
    }
    health = pulse_.Check(now);
    if (health.ok() && welcomed_ && !writing_ && pulse_.HeartbeatDue(now)) {
      pb::Heartbeat heartbeat;
      heartbeat.set_steps_received(steps_received_);
      heartbeat.set_steps_answered(steps_answered_);
      Seal(pb::FRAME_KIND_HEARTBEAT, heartbeat.SerializeAsString());
      act = Advance();
    }
  }
  Do(act);
  if (!health.ok()) {
    Log(LogLevel::kWarning, "previous shard lost", {{"reason", std::string(health.message())}});
    host_.Forget(this);
    End(health);
  }
}

void ShardStream::OnReadDone(bool ok) {
  if (!ok) {
    host_.Forget(this);
    End(absl::CancelledError("the caller ended the stream"));
    return;
  }
  if (const absl::Status taken = Take(incoming_); !taken.ok()) {
    Log(LogLevel::kWarning, "shard stream refused", {{"reason", std::string(taken.message())}});
    host_.Forget(this);
    End(taken);
    return;
  }
  StartRead(&incoming_);
}

void ShardStream::OnWriteDone(bool ok) {
  Act act = Act::kNothing;
  {
    const MutexLock lock(mutex_);
    writing_ = false;
    if (!ok) {
      outbox_.clear();
      if (!ended_.has_value()) {
        ended_ = absl::CancelledError("the caller is gone");
      }
    }
    act = Advance();
  }
  if (!ok) {
    host_.Forget(this);
  }
  Do(act);
}

void ShardStream::OnDone() {
  host_.Forget(this);
  const std::shared_ptr<ShardStream> last = std::move(self_);
}

absl::Status ShardStream::Take(const pb::RunRequest& message) {
  if (message.has_hello()) {
    return TakeHello(message.hello());
  }
  if (!greeted_ || !message.has_frame()) {
    return absl::InvalidArgumentError(greeted_ ? "message without content"
                                               : "the first message of a shard stream is a Hello");
  }
  return TakeFrame(message.frame());
}

absl::Status ShardStream::TakeHello(const pb::Hello& hello) {
  if (greeted_) {
    return absl::InvalidArgumentError("a second Hello in one stream");
  }
  greeted_ = true;
  timing_.heartbeat = std::chrono::milliseconds(std::clamp(hello.heartbeat_ms(), 50U, 1000U));
  return host_.Begin(shared_from_this(), hello);
}

absl::Status ShardStream::TakeFrame(const pb::Frame& frame) {
  YANGTUO_RETURN_IF_ERROR(verifier_.Check(frame));
  const TimePoint now = std::chrono::steady_clock::now();
  if (frame.kind() == pb::FRAME_KIND_HEARTBEAT) {
    const MutexLock lock(mutex_);
    pulse_.Heard(now);
    return absl::OkStatus();
  }
  pb::StepRequest request;
  if (frame.kind() != pb::FRAME_KIND_STEP || !request.ParseFromString(frame.payload())) {
    return absl::DataLossError(absl::StrFormat("frame %d is no step", frame.number()));
  }
  if (request.step_id() <= last_step_id_) {
    return absl::DataLossError(
        absl::StrFormat("step %d came after step %d", request.step_id(), last_step_id_));
  }
  last_step_id_ = request.step_id();
  {
    const MutexLock lock(mutex_);
    pulse_.Heard(now);
    ++steps_received_;
  }
  return host_.Enqueue(shared_from_this(), request);
}

void ShardStream::Seal(pb::FrameKind kind, std::string payload) {
  *outbox_.emplace_back().mutable_frame() = sealer_.Seal(kind, std::move(payload));
  pulse_.Sent(std::chrono::steady_clock::now());
}

ShardStream::Act ShardStream::Advance() {
  if (writing_ || finished_) {
    return Act::kNothing;
  }
  if (!outbox_.empty()) {
    in_flight_ = std::move(outbox_.front());
    outbox_.pop_front();
    writing_ = true;
    return Act::kWrite;
  }
  if (ended_.has_value()) {
    finished_ = true;
    return Act::kFinish;
  }
  return Act::kNothing;
}

void ShardStream::Do(Act act) {
  if (act == Act::kWrite) {
    StartWrite(&in_flight_);
  } else if (act == Act::kFinish) {
    absl::Status status;
    {
      const MutexLock lock(mutex_);
      status = *ended_;
    }
    Finish(ToGrpc(status));  // `this` may be gone once Finish returns.
  }
}

}  // namespace yangtuo
