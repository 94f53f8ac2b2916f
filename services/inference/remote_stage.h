#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/model/stage.h"
#include "services/inference/shard_connection.h"

namespace yangtuo {

// Whether the chain behind a stage is connected. Outlives the stage that writes it; thread-safe.
class ShardPresence {
 public:
  virtual ~ShardPresence() = default;
  [[nodiscard]] virtual bool connected() const = 0;
};

// The rest of the model on other machines: a Stage over one ShardService stream. Driven by one
// owner like every stage; arriving results wait in a queue until Next takes them.
//
// Submit and Next give UNAVAILABLE for whatever loses the stream (peer gone, hung, cut off, frame
// damaged), since the remedy is the same: Reset, and compute anew.
class RemoteStage final : public Stage {
 public:
  // One attempt to connect, bounded by the peer's timing. Errors as in ShardConnection::Open.
  static absl::StatusOr<std::unique_ptr<RemoteStage>> Connect(ShardPeer peer);
  ~RemoteStage() override;

  [[nodiscard]] const StageInfo& info() const override { return info_; }
  absl::Status Submit(Step step) override;
  absl::StatusOr<StepResult> Next() override;
  absl::Status Reset() override;

  // Stays valid after the stage is gone (and says false then).
  [[nodiscard]] std::shared_ptr<const ShardPresence> presence() const;

 private:
  class Results;
  class Presence;

  explicit RemoteStage(ShardPeer peer);
  absl::Status Open();

  ShardPeer peer_;
  StageInfo info_;
  const std::shared_ptr<Presence> presence_;
  std::uint64_t epoch_ = 0;
  std::int32_t outstanding_ = 0;
  std::shared_ptr<Results> results_;  // of the present connection
  std::unique_ptr<ShardConnection> connection_;
};

}  // namespace yangtuo
