#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "gateway/call_scope.h"
#include "gateway/peer_discovery.h"
#include "gateway/text_stream.h"
#include "gateway/tokenizer_replica.h"
#include "inference_core/base/mutex.h"
#include "services/common/metrics.h"
#include "services/common/service_options.h"
#include "yangtuo/internal/v1/tokenizer.pb.h"

namespace yangtuo::gateway {

// The bytes that every id of a tokenizer stands for.
using PieceTable = std::vector<std::string>;

template <typename T>
using Callback = std::function<void(absl::StatusOr<T>)>;

// All tokenizer replicas that discovery has found, used as one service: a call that finds a replica
// gone goes to another one, and text streams move. Thread-safe. Callbacks run on gRPC's threads, or
// inside the call when it fails at once.
class TokenizerPool : public std::enable_shared_from_this<TokenizerPool> {
 public:
  struct Options {
    ClientTls tls;
    // One unary call, every attempt together.
    Duration call_limit = std::chrono::seconds(10);
    // How long a text stream waits for some replica before it fails.
    Duration stream_limit = std::chrono::seconds(8);
  };

  static std::shared_ptr<TokenizerPool> Create(Options options, LiveCalls& calls, Counter& retries);

  void SetPeers(const std::vector<PeerAddress>& peers) ABSL_LOCKS_EXCLUDED(mutex_);
  void Tick(TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

  // The tokenizer that fits a model. UNAVAILABLE, with a RetryInfo, when no replica that is up has
  // it. Its `digest`, else its `name`, addresses it in the calls below.
  absl::StatusOr<internal::v1::TokenizerInfo> Find(const std::string& digest,
                                                   const std::string& model) const;

  // Each with the scope's identity and deadline; `request.tokenizer` is set.
  void Encode(std::shared_ptr<CallScope> scope, internal::v1::EncodeRequest request,
              Callback<internal::v1::EncodeResponse> done);
  void Decode(std::shared_ptr<CallScope> scope, internal::v1::DecodeRequest request,
              Callback<internal::v1::DecodeResponse> done);
  void RenderChat(std::shared_ptr<CallScope> scope, internal::v1::RenderChatRequest request,
                  Callback<internal::v1::RenderChatResponse> done);

  // Asked for once per tokenizer, then remembered.
  void Pieces(std::shared_ptr<CallScope> scope, const internal::v1::TokenizerInfo& tokenizer,
              Callback<std::shared_ptr<const PieceTable>> done) ABSL_LOCKS_EXCLUDED(mutex_);

  // A new text stream on some replica.
  std::shared_ptr<TextStream> OpenText(TextStream::Options options,
                                       std::shared_ptr<TextEvents> events);

  // The replicas that discovery knows, by address, and whether they answer.
  [[nodiscard]] std::map<std::string, bool> Up() const;
  [[nodiscard]] bool Has(const std::string& digest, const std::string& model) const;

 private:
  struct Parked {
    std::shared_ptr<TextStream> stream;
    TimePoint give_up;
  };
  // A unary call whose replica may turn out to be silent.
  class PatientCall {
   public:
    virtual ~PatientCall() = default;
    // Leaves a replica that has not answered for long, when there is another to ask.
    virtual void OnTick(TimePoint now) = 0;
  };
  template <typename Request, typename Response>
  class UnaryCall;

  TokenizerPool(Options options, LiveCalls& calls, Counter& retries)
      : options_(std::move(options)), calls_(calls), retries_(retries) {}

  [[nodiscard]] std::vector<std::shared_ptr<TokenizerReplica>> Current() const
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Replicas take turns at each kind of work: a request that needs one of each would otherwise
  // leave all calls to one of two replicas, and all texts to the other.
  enum Work { kCall, kText };
  // A replica that is up and has the tokenizer, other than those tried; null when there is none.
  std::shared_ptr<TokenizerReplica> Pick(Work work, const std::string& tokenizer,
                                         const std::vector<std::string>& tried)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // `call` is told the time until it is gone.
  void Watch(const std::weak_ptr<PatientCall>& call) ABSL_LOCKS_EXCLUDED(mutex_);
  // Puts a stream on some replica, or aside until one comes up.
  void Place(const std::shared_ptr<TextStream>& stream, TimePoint give_up)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDecodeLost(std::vector<std::shared_ptr<TextStream>> streams);

  const Options options_;
  LiveCalls& calls_;
  Counter& retries_;
  mutable Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::array<std::uint64_t, 2> turns_ ABSL_GUARDED_BY(mutex_){};  // by Work
  std::map<std::string, std::shared_ptr<TokenizerReplica>> replicas_ ABSL_GUARDED_BY(mutex_);
  std::vector<Parked> parked_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<PatientCall>> watched_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<const PieceTable>> pieces_ ABSL_GUARDED_BY(mutex_);
};

// How a tokenizer is addressed in requests: its digest, which cannot be mistaken, else its name.
const std::string& TokenizerAddress(const internal::v1::TokenizerInfo& tokenizer);

}  // namespace yangtuo::gateway
