#include "services/inference/remote_stage.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/types/optional.h"
#include "google/rpc/error_details.pb.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/status.h"
#include "services/inference/shard_codec.h"

namespace yangtuo {

namespace pb = internal::v1;

// Remembers which connection is live, so that late news of an older one changes nothing.
class RemoteStage::Presence final : public ShardPresence {
 public:
  [[nodiscard]] bool connected() const override { return live_.load() != nullptr; }
  void Set(const void* connection) { live_.store(connection); }
  void Lost(const void* connection) { live_.compare_exchange_strong(connection, nullptr); }

 private:
  std::atomic<const void*> live_ = nullptr;
};

// Results of one connection, from gRPC's threads to the owner.
class RemoteStage::Results {
 public:
  void Add(pb::StepResponse response) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      const MutexLock lock(mutex_);
      responses_.push_back(std::move(response));
    }
    changed_.NotifyOne();
  }

  void Lose(const absl::Status& why) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      const MutexLock lock(mutex_);
      lost_ = why;
    }
    changed_.NotifyOne();
  }

  absl::StatusOr<pb::StepResponse> Take() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    while (responses_.empty() && !lost_.has_value()) {
      changed_.Wait(mutex_);
    }
    if (responses_.empty()) {
      return *lost_;
    }
    pb::StepResponse response = std::move(responses_.front());
    responses_.pop_front();
    return response;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::deque<pb::StepResponse> responses_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> lost_ ABSL_GUARDED_BY(mutex_);
};

namespace {

// A leader that was started anew counts on from the time of day, so that its first epoch is newer
// than those of its predecessor.
std::uint64_t EpochFromTime() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count());
}

// The epoch that a refusing shard serves; 0 unless that is why it refused. Clocks of two machines
// differ: the next attempt starts from there.
std::uint64_t EpochOfRefusal(const absl::Status& refusal) {
  const absl::optional<absl::Cord> payload =
      refusal.GetPayload("type.googleapis.com/google.rpc.ErrorInfo");
  google::rpc::ErrorInfo info;
  std::uint64_t epoch = 0;
  if (!payload.has_value() || !info.ParseFromString(std::string(*payload)) ||
      info.reason() != kEpochNotNewer ||
      !absl::SimpleAtoi(info.metadata().contains("epoch") ? info.metadata().at("epoch") : "",
                        &epoch)) {
    return 0;
  }
  return epoch;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteStage>> RemoteStage::Connect(ShardPeer peer) {
  std::unique_ptr<RemoteStage> stage(new RemoteStage(std::move(peer)));
  YANGTUO_RETURN_IF_ERROR(stage->Open());
  stage->info_ = StageBehind(stage->peer_, stage->connection_->welcome());
  // From now on the group is built on this many blocks: a shard that comes back with fewer does
  // not fit any more.
  stage->peer_.expected.kv_blocks = stage->info_.kv_blocks;
  return stage;
}

RemoteStage::RemoteStage(ShardPeer peer)
    : peer_(std::move(peer)), presence_(std::make_shared<Presence>()) {}

RemoteStage::~RemoteStage() {
  connection_.reset();
  presence_->Set(nullptr);
}

std::shared_ptr<const ShardPresence> RemoteStage::presence() const { return presence_; }

absl::Status RemoteStage::Open() {
  const auto results = std::make_shared<Results>();
  const std::shared_ptr<Presence> presence = presence_;
  ShardEvents events;
  events.on_result = [results](pb::StepResponse response) { results->Add(std::move(response)); };
  events.on_lost = [results, presence](const absl::Status& why) {
    presence->Lost(results.get());
    results->Lose(why);
  };
  epoch_ = std::max(epoch_ + 1, EpochFromTime());
  absl::StatusOr<std::unique_ptr<ShardConnection>> connection = ShardConnection::Open(
      peer_, MakeHello(peer_.expected, epoch_, peer_.own_rank, peer_.timing.heartbeat),
      std::move(events));
  if (!connection.ok()) {
    epoch_ = std::max(epoch_, EpochOfRefusal(connection.status()));
    return connection.status();
  }
  connection_ = *std::move(connection);
  results_ = results;
  outstanding_ = 0;
  presence_->Set(results.get());
  if (!connection_->status().ok()) {  // Lost between the welcome and here.
    presence_->Lost(results.get());
  }
  return absl::OkStatus();
}

absl::Status RemoteStage::Submit(Step step) {
  if (connection_ == nullptr) {
    return absl::UnavailableError(absl::StrFormat("shard at %s: not connected", peer_.address));
  }
  if (const absl::Status sent = connection_->Send(step); !sent.ok()) {
    return AsUnavailable(sent);
  }
  ++outstanding_;
  return absl::OkStatus();
}

absl::StatusOr<StepResult> RemoteStage::Next() {
  if (outstanding_ == 0) {
    return absl::FailedPreconditionError("no step is outstanding");
  }
  --outstanding_;
  absl::StatusOr<pb::StepResponse> response = results_->Take();
  if (!response.ok()) {
    outstanding_ = 0;
    return AsUnavailable(response.status());
  }
  absl::StatusOr<StepResult> result = DecodeStepResult(*response, info_);
  if (!result.ok()) {
    outstanding_ = 0;
    const absl::Status named(
        result.status().code(),
        absl::StrFormat("shard at %s: %s", peer_.address, std::string(result.status().message())));
    return absl::IsDataLoss(named) ? AsUnavailable(named) : named;
  }
  return result;
}

absl::Status RemoteStage::Reset() {
  connection_.reset();
  results_.reset();
  outstanding_ = 0;
  return Open();
}

}  // namespace yangtuo
