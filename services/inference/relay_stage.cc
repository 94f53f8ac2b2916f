#include "services/inference/relay_stage.h"

#include <chrono>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {

// Computing time here of the steps that are with the next shard. Thread-safe.
class RelayStage::ComputeTimes {
 public:
  void Put(std::uint64_t step_id, Duration compute) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    times_[step_id] = compute;
  }

  std::uint64_t TakeNanoseconds(std::uint64_t step_id) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    const auto found = times_.find(step_id);
    if (found == times_.end()) {
      return 0;
    }
    const Duration compute = found->second;
    times_.erase(found);
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(compute).count());
  }

 private:
  Mutex mutex_;
  std::map<std::uint64_t, Duration> times_ ABSL_GUARDED_BY(mutex_);
};

// Lets the loss of a connection through once its group is formed. Before, Open says why there is
// none, in words and with details that the loss alone does not have. Thread-safe.
class RelayStage::LossGate {
 public:
  // Whether to tell it.
  bool Lost(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    lost_ = why;
    return formed_;
  }
  // OK, or the loss that was not told.
  absl::Status Form() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    formed_ = true;
    return lost_;
  }

 private:
  Mutex mutex_;
  bool formed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::unique_ptr<RelayStage>> RelayStage::Describe(ShardPeer peer) {
  YANGTUO_ASSIGN_OR_RETURN(const internal::v1::Welcome welcome, DescribeShard(peer));
  StageInfo info = StageBehind(peer, welcome);
  peer.expected.kv_blocks = info.kv_blocks;
  return std::unique_ptr<RelayStage>(new RelayStage(std::move(peer), std::move(info)));
}

RelayStage::RelayStage(ShardPeer peer, StageInfo info)
    : peer_(std::move(peer)), info_(std::move(info)) {}

void RelayStage::SetRoute(Route route) { route_ = std::move(route); }

absl::Status RelayStage::Submit(Step step) {
  if (connection_ == nullptr) {
    return absl::UnavailableError(absl::StrFormat("shard at %s: not connected", peer_.address));
  }
  // The layers here are done: what follows is the next shard's time.
  times_->Put(step.id, std::chrono::steady_clock::now() - start_);
  if (const absl::Status sent = connection_->Send(step); !sent.ok()) {
    return AsUnavailable(sent);
  }
  submitted_.push_back(step.id);
  return absl::OkStatus();
}

absl::StatusOr<StepResult> RelayStage::Next() {
  if (submitted_.empty()) {
    return absl::FailedPreconditionError("no step is outstanding");
  }
  StepResult result;
  result.id = submitted_.front();
  submitted_.pop_front();
  return result;
}

absl::Status RelayStage::Reset() {
  connection_.reset();
  submitted_.clear();
  times_ = std::make_shared<ComputeTimes>();
  ShardEvents events;
  const auto gate = std::make_shared<LossGate>();
  events.on_lost = [gate, forward = route_.events.on_lost](const absl::Status& why) {
    if (gate->Lost(why)) {
      forward(why);
    }
  };
  events.on_result = [times = times_,
                      forward = route_.events.on_result](internal::v1::StepResponse response) {
    response.set_compute_ns(response.compute_ns() + times->TakeNanoseconds(response.step_id()));
    forward(std::move(response));
  };
  YANGTUO_ASSIGN_OR_RETURN(
      connection_,
      ShardConnection::Open(
          peer_, MakeHello(peer_.expected, route_.epoch, route_.own_rank, peer_.timing.heartbeat),
          std::move(events)));
  const absl::Status lost = gate->Form();
  return lost.ok() ? lost : AsUnavailable(lost);
}

}  // namespace yangtuo
