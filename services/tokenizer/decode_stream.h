#pragma once

#include <memory>
#include <unordered_set>

#include "absl/base/thread_annotations.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "inference_core/base/mutex.h"
#include "services/tokenizer/text_streams.h"
#include "yangtuo/internal/v1/tokenizer.pb.h"

namespace yangtuo {

class DecodeStream;

// The DecodeStream calls of the process. They last as long as their gateway, so a drain has to end
// them: each one as soon as it has no open text stream. Thread-safe.
class DecodeStreams {
 public:
  // UNAVAILABLE to every call from now on, to those in progress once they are idle.
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] bool draining() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class DecodeStream;
  void Insert(const std::shared_ptr<DecodeStream>& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Erase(const std::shared_ptr<DecodeStream>& call) ABSL_LOCKS_EXCLUDED(mutex_);

  mutable Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::unordered_set<std::shared_ptr<DecodeStream>> calls_ ABSL_GUARDED_BY(mutex_);
};

// One DecodeStream call: reads a list, answers it, reads the next. While an answer is not on its
// way nothing is read, so a client that does not listen is held back by flow control. Owns itself
// until OnDone; the objects it is given outlive it.
class DecodeStream final : public grpc::ServerBidiReactor<internal::v1::DecodeStreamRequest,
                                                          internal::v1::DecodeStreamResponse> {
 public:
  struct Dependencies {
    const TokenizerRegistry& registry;
    TokenizerMetrics& metrics;
    DecodeStreams& calls;
    std::size_t max_streams;
  };
  static DecodeStream* Start(const Dependencies& dependencies,
                             const grpc::CallbackServerContext& context);

  // Ends the call now if it is idle, else once its last text stream has ended.
  void Drain() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  DecodeStream(const Dependencies& dependencies, const grpc::CallbackServerContext& context);

  void OnReadDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnDone() override;
  // Waits for the next list, or ends the call when it drains and is idle.
  void ReadNext() ABSL_LOCKS_EXCLUDED(mutex_);
  // True once: then the caller must call Finish(status) after releasing the lock.
  bool BeginFinish(grpc::Status status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FinishOnce(grpc::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  const grpc::CallbackServerContext& context_;
  TokenizerMetrics& metrics_;
  DecodeStreams& calls_;
  std::shared_ptr<DecodeStream> self_;  // until OnDone

  // Used by the reaction in progress; there is one at a time.
  TextStreams streams_;
  internal::v1::DecodeStreamRequest request_;
  internal::v1::DecodeStreamResponse response_;

  Mutex mutex_;
  bool idle_ ABSL_GUARDED_BY(mutex_) = false;  // reading, with no open text stream
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mutex_);  // of the end, set with finished_
};

}  // namespace yangtuo
