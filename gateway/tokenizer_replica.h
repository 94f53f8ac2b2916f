#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "gateway/call_scope.h"
#include "gateway/decode_call.h"
#include "gateway/peer_discovery.h"
#include "grpcpp/channel.h"
#include "inference_core/base/mutex.h"
#include "services/common/service_options.h"
#include "yangtuo/internal/v1/tokenizer.grpc.pb.h"

namespace yangtuo::gateway {

// One tokenizer process: a channel, what it offers (asked for every second, which also shows that
// it lives), and one DecodeStream call for all text streams. Thread-safe.
class TokenizerReplica : public std::enable_shared_from_this<TokenizerReplica> {
 public:
  // A decode message, or a poll, that is unanswered for this long means a hung process.
  static constexpr Duration kSilenceLimit = std::chrono::milliseconds(2800);

  // Hears of the streams that a decode call leaves behind.
  using OnLost = std::function<void(std::vector<std::shared_ptr<TextStream>>)>;

  static absl::StatusOr<std::shared_ptr<TokenizerReplica>> Connect(const PeerAddress& address,
                                                                   const ClientTls& tls,
                                                                   LiveCalls& calls,
                                                                   OnLost on_lost);

  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] internal::v1::TokenizerService::StubInterface::async_interface& stub() {
    return *stub_->async();
  }
  [[nodiscard]] LiveCalls::Token EnterCall() { return calls_.Enter(); }

  void Tick(TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);
  // A call found it gone; the next successful poll brings it back.
  void MarkDown(const std::string& why) ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] bool up() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Up, but soon gone: others are better for what begins now.
  [[nodiscard]] bool draining() const ABSL_LOCKS_EXCLUDED(mutex_);
  // The tokenizer of that digest or name, if this replica is up and has it.
  [[nodiscard]] std::optional<internal::v1::TokenizerInfo> Find(const std::string& digest,
                                                                const std::string& name) const
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Puts a text stream on the decode call, opening one if needed. False when the replica is down.
  bool Attach(const std::shared_ptr<TextStream>& stream) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Poll;

  TokenizerReplica(std::string address, std::shared_ptr<grpc::Channel> channel, LiveCalls& calls,
                   OnLost on_lost);
  void StartPoll();
  void OnPolled(const Poll& poll, const grpc::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // The decode call of all streams, begun if there is none. Null when the replica is down.
  std::shared_ptr<DecodeCall> CurrentDecode() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool IsCurrent(const DecodeCall& call) const ABSL_LOCKS_EXCLUDED(mutex_);

  const std::string address_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<internal::v1::TokenizerService::Stub> stub_;
  LiveCalls& calls_;
  const OnLost on_lost_;

  mutable Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool up_ ABSL_GUARDED_BY(mutex_) = false;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool polling_ ABSL_GUARDED_BY(mutex_) = false;
  TimePoint poll_at_ ABSL_GUARDED_BY(mutex_){};
  std::shared_ptr<grpc::ClientContext> poll_ ABSL_GUARDED_BY(mutex_);
  std::vector<internal::v1::TokenizerInfo> infos_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<DecodeCall> decode_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::gateway
