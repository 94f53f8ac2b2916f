#pragma once

#include <span>
#include <string>
#include <vector>

#include "grpcpp/support/server_callback.h"
#include "inference_core/engine/engine.h"
#include "services/inference/sequence_call.h"
#include "services/inference/sequence_trace.h"
#include "services/inference/token_stream.h"
#include "services/inference/worker_metrics.h"
#include "yangtuo/internal/v1/inference.pb.h"

namespace yangtuo {

// One Embed call. Lifetime as in TokenStream.
class EmbedCall final : public grpc::ServerUnaryReactor, public SequenceSink {
 public:
  struct Options {
    std::string request_id;
    Span span;
    DescribeError describe;
  };

  // `response` is gRPC's, alive until Finish.
  EmbedCall(const TokenStream::Parts& parts, Options options,
            internal::v1::EmbedResponse* response);

  // As TokenStream::Start.
  void Start(EngineRequest request);

 private:
  void OnStarted(std::int32_t cached_prompt_tokens) override {
    trace_.Started(cached_prompt_tokens);
  }
  void OnToken(SampledToken /*token*/) override {}  // not of this task
  void OnPromptLogprobs(std::span<const SampledToken> /*entries*/) override {}
  void OnEmbedding(std::vector<float> values) override;
  void OnFinished(const SequenceOutcome& outcome) override;

  void OnCancel() override { call_.Cancel(); }
  void OnDone() override;

  WorkerMetrics& metrics_;
  const Clock& clock_;
  const Options options_;
  const TimePoint arrival_;
  SequenceCall call_;
  internal::v1::EmbedResponse* const response_;
  SequenceTrace trace_;        // the engine thread's until Finish, then OnDone's
  absl::Status final_status_;  // the engine thread's until Finish, then OnDone's
};

}  // namespace yangtuo
