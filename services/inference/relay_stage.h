#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/model/stage.h"
#include "services/inference/shard_connection.h"

namespace yangtuo {

// The next shard as a middle shard sees it. Steps go on to it; its results do not come back through
// Next but pass by the compute thread, straight to the shard before this one. So results never wait
// for a computation here, and computations never wait for results: Next answers at once with an
// empty result.
class RelayStage final : public Stage {
 public:
  // Learns what the next shard is, without opening its stream: that is Reset's. One bounded
  // attempt.
  static absl::StatusOr<std::unique_ptr<RelayStage>> Describe(ShardPeer peer);

  // What the next Reset will use: the epoch of the shard before this one, its rank, and where
  // results go. The events get this shard's computing time added to the results'.
  struct Route {
    std::uint64_t epoch = 0;
    std::int32_t own_rank = 1;
    ShardEvents events;
  };
  void SetRoute(Route route);
  // A step's computation begins now.
  void NoteStart() { start_ = std::chrono::steady_clock::now(); }

  [[nodiscard]] const StageInfo& info() const override { return info_; }
  absl::Status Submit(Step step) override;
  absl::StatusOr<StepResult> Next() override;
  absl::Status Reset() override;

 private:
  class ComputeTimes;
  class LossGate;

  RelayStage(ShardPeer peer, StageInfo info);

  ShardPeer peer_;
  StageInfo info_;
  Route route_;
  TimePoint start_{};
  std::deque<std::uint64_t> submitted_;
  std::shared_ptr<ComputeTimes> times_;  // of the present connection
  std::unique_ptr<ShardConnection> connection_;
};

}  // namespace yangtuo
