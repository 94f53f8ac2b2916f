#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "grpcpp/channel.h"
#include "inference_core/model/stage.h"
#include "services/inference/shard_handshake.h"
#include "services/inference/ticker.h"
#include "yangtuo/internal/v1/shard.pb.h"

namespace yangtuo {

// The next shard of the chain, as its caller knows it before the first connection.
struct ShardPeer {
  std::string address;  // for messages
  std::shared_ptr<grpc::Channel> channel;
  StageInfo expected;         // as in MakeHello
  std::int32_t own_rank = 0;  // the caller's place in the chain
  ShardTiming timing;
  Ticker* ticker = nullptr;  // outlives every connection
};

// What arrives on a connection. Called on gRPC's and the ticker's threads, possibly a little after
// the connection was dropped; must not block.
struct ShardEvents {
  // One at a time, in step order.
  std::function<void(internal::v1::StepResponse)> on_result;
  // Exactly once: the peer or the stream to it is lost, and why. A result that arrived just before
  // may still be on its way to on_result.
  std::function<void(const absl::Status&)> on_lost;
};

// The calling end of one Run stream: the handshake, then steps out and results in, in order and
// checked, with heartbeats both ways. One stream, one life: once lost it stays lost.
// Thread-safe. Dropping it cancels the stream and waits for the moment that this takes; so it is
// never dropped by a reaction.
class ShardConnection {
 public:
  // Shakes hands; blocks for at most timing.attempt_limit. UNAVAILABLE (not there, not ready),
  // FAILED_PRECONDITION (does not fit, naming both sides).
  static absl::StatusOr<std::unique_ptr<ShardConnection>> Open(const ShardPeer& peer,
                                                               const internal::v1::Hello& hello,
                                                               ShardEvents events);
  ~ShardConnection();
  ShardConnection(const ShardConnection&) = delete;
  ShardConnection& operator=(const ShardConnection&) = delete;

  [[nodiscard]] const internal::v1::Welcome& welcome() const { return welcome_; }
  // Hands a step to the stream; never blocks. UNAVAILABLE when the peer is lost.
  absl::Status Send(const Step& step);
  // OK until the peer is lost; then why.
  [[nodiscard]] absl::Status status() const;

 private:
  class Call;
  explicit ShardConnection(std::shared_ptr<Call> call);

  const std::shared_ptr<Call> call_;
  internal::v1::Welcome welcome_;  // constant once Open returned
};

// Asks the next shard what it is (epoch 0), without disturbing the group that it may be serving.
absl::StatusOr<internal::v1::Welcome> DescribeShard(const ShardPeer& peer);

// Why a stream was lost matters to people; to the owner of the stage every loss is the same.
absl::Status AsUnavailable(const absl::Status& lost);

// What the chain behind the caller is, as StageInfo: `peer.expected` completed by a welcome.
StageInfo StageBehind(const ShardPeer& peer, const internal::v1::Welcome& welcome);

}  // namespace yangtuo
