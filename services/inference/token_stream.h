#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "grpcpp/support/server_callback.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "inference_core/engine/engine.h"
#include "services/common/tracer.h"
#include "services/inference/sequence_call.h"
#include "services/inference/sequence_trace.h"
#include "services/inference/worker_metrics.h"
#include "yangtuo/internal/v1/inference.pb.h"

namespace yangtuo {

// Gives an engine's error the reason and retry hint that clients act on.
using DescribeError = std::function<absl::Status(const absl::Status&)>;

// Carries one sequence from the engine's thread to one Generate call. Tokens that wait while a
// write is in progress travel together in the next message.
//
// Lifetime: once the engine took the sequence, its OnFinished is the only thing that leads to
// Finish, and gRPC calls OnDone only after Finish. So this outlives every call the engine makes on
// it; a client that leaves or reads too slowly merely makes the engine end early.
class TokenStream final : public grpc::ServerWriteReactor<internal::v1::GenerateResponse>,
                          public SequenceSink {
 public:
  struct Options {
    // A client that lets more than this wait is cut off with RESOURCE_EXHAUSTED.
    std::size_t max_pending_bytes = std::size_t{4} << 20;
    std::string request_id;  // for logs
    Span span;
    DescribeError describe;
  };

  // All but the options outlive it.
  struct Parts {
    Engine& engine;
    SequenceCalls& calls;
    WorkerMetrics& metrics;
    const Clock& clock;
  };
  TokenStream(const Parts& parts, Options options);

  // Hands the request to the engine, or finishes the call with why it was refused. Called once,
  // before the reactor is returned to gRPC (which keeps `this` alive meanwhile).
  void Start(EngineRequest request);

 private:
  enum class Act { kNothing, kWrite, kFinish };

  void OnStarted(std::int32_t cached_prompt_tokens) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnToken(SampledToken token) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnPromptLogprobs(std::span<const SampledToken> entries) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnEmbedding(std::vector<float> /*values*/) override {}  // not of this task
  void OnFinished(const SequenceOutcome& outcome) override ABSL_LOCKS_EXCLUDED(mutex_);

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnCancel() override { call_.Cancel(); }
  void OnDone() override;

  void ObserveToken();
  // Adds the size of what now waits; true when the client is cut off because of it.
  bool Overflows(std::size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What must be done after releasing the lock.
  Act Advance() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `this` may be gone afterwards.
  void Do(Act act);

  WorkerMetrics& metrics_;
  const Clock& clock_;
  const Options options_;
  const TimePoint arrival_;
  SequenceCall call_;
  bool wants_logprobs_ = false;  // set by Start

  // Engine thread only, until OnFinished; then OnDone's.
  SequenceTrace trace_;
  std::optional<TimePoint> last_token_;
  std::int64_t tokens_ = 0;

  Mutex mutex_;
  internal::v1::GenerateDelta pending_ ABSL_GUARDED_BY(mutex_);
  std::size_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  // Nothing more is sent: the client is gone or too slow. What the call ends with, then.
  std::optional<absl::Status> cut_off_ ABSL_GUARDED_BY(mutex_);
  std::optional<SequenceOutcome> outcome_ ABSL_GUARDED_BY(mutex_);

  // Written by Advance alone while no write is in progress; then gRPC's until OnWriteDone.
  internal::v1::GenerateResponse in_flight_;
  absl::Status final_status_;
};

}  // namespace yangtuo
