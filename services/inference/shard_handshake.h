#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "inference_core/model/stage.h"
#include "yangtuo/internal/v1/shard.pb.h"

// What two neighbours in a chain of shards must agree on before any step travels. Pure functions.
namespace yangtuo {

// Raised when frames or payloads change their meaning.
constexpr std::uint32_t kShardProtocolVersion = 1;

// The reason (google.rpc.ErrorInfo) of a refusal because the callee serves a newer epoch already;
// the metadata key "epoch" says which.
constexpr char kEpochNotNewer[] = "EPOCH_NOT_NEWER";

// How long neighbours wait for each other.
struct ShardTiming {
  // One attempt to connect and shake hands.
  Duration attempt_limit = std::chrono::seconds(2);
  Duration heartbeat = std::chrono::milliseconds(500);
  // A peer that sent nothing for this long is lost. Below 3 s with the granularity of a tick.
  Duration silence_limit = std::chrono::milliseconds(2500);
  // A peer whose step counters stand still for this long while steps are pending is hung, even if
  // its heartbeats come. Longer than the longest honest step.
  Duration step_limit = std::chrono::seconds(20);
};

// `expected` describes what must follow the caller: first_layer is the layer that the callee must
// begin with, kv_blocks may be 0 (unknown). `rank` is the caller's place in the chain.
internal::v1::Hello MakeHello(const StageInfo& expected, std::uint64_t epoch, std::int32_t rank,
                              Duration heartbeat);

// FAILED_PRECONDITION naming both sides unless `own` is what the caller expects. The epoch is not
// looked at.
absl::Status CheckHello(const internal::v1::Hello& hello, const StageInfo& own);

// FAILED_PRECONDITION when `hello` is not newer than `current_epoch` (epoch 0 always passes).
absl::Status CheckEpoch(const internal::v1::Hello& hello, std::uint64_t current_epoch);

internal::v1::Welcome MakeWelcome(const StageInfo& own, std::int32_t last_layer,
                                  std::uint64_t epoch);

// FAILED_PRECONDITION unless the welcome answers `hello` and holds as many KV blocks as it asks
// for.
absl::Status CheckWelcome(const internal::v1::Welcome& welcome, const internal::v1::Hello& hello);

}  // namespace yangtuo
