#pragma once

#include <cstdint>
#include <deque>

#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "services/inference/shard_handshake.h"

namespace yangtuo {

// What one end of a shard stream knows about the other end's life: when it was last heard, and
// whether the steps it was given make progress. Pure bookkeeping; not thread-safe.
class PeerPulse {
 public:
  PeerPulse(const ShardTiming& timing, TimePoint now)
      : timing_(timing), last_heard_(now), last_sent_(now), last_progress_(now) {}

  void Heard(TimePoint now) { last_heard_ = now; }
  void Sent(TimePoint now) { last_sent_ = now; }
  void StepSent(std::uint64_t step_id, TimePoint now);
  // DATA_LOSS unless the answer is of the oldest step that is pending.
  absl::Status StepAnswered(std::uint64_t step_id, TimePoint now);
  // Counters of the peer's heartbeat.
  void Counters(std::uint64_t steps_received, std::uint64_t steps_answered, TimePoint now);

  [[nodiscard]] bool HeartbeatDue(TimePoint now) const {
    return now - last_sent_ >= timing_.heartbeat;
  }
  // UNAVAILABLE, saying how, when the peer must be taken for lost.
  [[nodiscard]] absl::Status Check(TimePoint now) const;

 private:
  ShardTiming timing_;
  TimePoint last_heard_;
  TimePoint last_sent_;
  TimePoint last_progress_;
  std::deque<std::uint64_t> pending_;  // ids of unanswered steps, oldest first
  std::uint64_t peer_received_ = 0;
  std::uint64_t peer_answered_ = 0;
};

}  // namespace yangtuo
