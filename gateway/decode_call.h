#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "gateway/call_scope.h"
#include "gateway/text_stream.h"
#include "grpcpp/support/client_callback.h"
#include "inference_core/base/mutex.h"
#include "yangtuo/internal/v1/tokenizer.grpc.pb.h"

namespace yangtuo::gateway {

// One DecodeStream call that carries many text streams. Thread-safe; owns itself from Start until
// the call has ended.
//
// At most one message is unanswered at a time, and everything that arrives meanwhile goes into the
// next one: the busier the tokenizer, the larger the messages, without a timer and without a delay
// when there is little to do.
class DecodeCall final : public grpc::ClientBidiReactor<internal::v1::DecodeStreamRequest,
                                                        internal::v1::DecodeStreamResponse>,
                         public std::enable_shared_from_this<DecodeCall> {
 public:
  // Told once, after the call has ended: which, why, and the streams that had not.
  using OnLost = std::function<void(const DecodeCall&, const grpc::Status&,
                                    std::vector<std::shared_ptr<TextStream>>)>;

  static std::shared_ptr<DecodeCall> Start(
      internal::v1::TokenizerService::StubInterface::async_interface& stub, LiveCalls::Token token,
      OnLost on_lost);

  // Takes a stream over. False when the call is over.
  bool Attach(const std::shared_ptr<TextStream>& stream) ABSL_LOCKS_EXCLUDED(mutex_);
  // `stream` has something to send. Without effect when the call is over.
  void Wake(std::shared_ptr<TextStream> stream) ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel() { context_.TryCancel(); }

  // Since when a message is unanswered; TimePoint::max() when none is.
  [[nodiscard]] TimePoint waiting_since() const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool over() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  DecodeCall(LiveCalls::Token token, OnLost on_lost)
      : token_(std::move(token)), on_lost_(std::move(on_lost)) {}

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone(const grpc::Status& status) override ABSL_LOCKS_EXCLUDED(mutex_);

  // Whether to write now; then the caller must call WriteNext after releasing the lock.
  bool BeginWrite() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteNext() ABSL_LOCKS_EXCLUDED(mutex_);
  void Forget(const std::vector<std::uint64_t>& ids) ABSL_LOCKS_EXCLUDED(mutex_);

  const LiveCalls::Token token_;
  const OnLost on_lost_;
  grpc::ClientContext context_;
  std::shared_ptr<DecodeCall> self_;  // until OnDone

  mutable Mutex mutex_;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;  // request_ is in use
  bool unanswered_ ABSL_GUARDED_BY(mutex_) = false;
  TimePoint sent_at_ ABSL_GUARDED_BY(mutex_){};
  std::uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<std::shared_ptr<TextStream>> dirty_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::uint64_t, std::shared_ptr<TextStream>> open_ ABSL_GUARDED_BY(mutex_);

  // Used by whoever set writing_.
  internal::v1::DecodeStreamRequest request_;
  std::vector<std::shared_ptr<TextStream>> sending_;
  // Used by OnReadDone.
  internal::v1::DecodeStreamResponse response_;
  std::vector<std::shared_ptr<TextStream>> receivers_;
};

}  // namespace yangtuo::gateway
