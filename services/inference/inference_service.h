#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "inference_core/engine/engine.h"
#include "services/common/tracer.h"
#include "services/inference/generate_translation.h"
#include "services/inference/sequence_call.h"
#include "services/inference/status_board.h"
#include "services/inference/token_stream.h"
#include "services/inference/worker_metrics.h"
#include "yangtuo/internal/v1/inference.grpc.pb.h"

namespace yangtuo {

// The token API: translates between proto and engine, and nothing else. Thread-safe. What the
// constructor takes outlives the server that this is registered with.
class InferenceService final : public internal::v1::InferenceService::CallbackService {
 public:
  struct Options {
    // Answer to Generate and Embed until (or, for a shard that does not lead, instead of) Serve.
    absl::Status refusal = absl::UnavailableError("the model is still loading");
    std::size_t max_pending_bytes = std::size_t{4} << 20;  // as in TokenStream
    std::string model = {};                                // public name, for spans
    const Tracer* tracer = nullptr;                        // outlives it; null: no spans
  };

  InferenceService(StatusBoard& board, WorkerMetrics& metrics, const Clock& clock, Options options);

  // Begins to generate. Called once; `engine` outlives the server's last call.
  void Serve(Engine& engine, ServedModel model);
  // The engine takes nothing new: errors say that the worker is draining.
  void NoteDraining() { acceptance_.store(Acceptance::kDraining); }
  // Ends what still runs, with UNAVAILABLE once draining was noted.
  void CancelAll() { calls_.CancelAll(); }

  grpc::ServerWriteReactor<internal::v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const internal::v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context,
                                  const internal::v1::EmbedRequest* request,
                                  internal::v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const internal::v1::GetStatusRequest* request,
                                      internal::v1::GetStatusResponse* response) override;
  grpc::ServerWriteReactor<internal::v1::WatchStatusResponse>* WatchStatus(
      grpc::CallbackServerContext* context,
      const internal::v1::WatchStatusRequest* request) override;

 private:
  struct Serving {
    Engine& engine;
    ServedModel model;
  };
  // A request that may go to the engine, or why not.
  template <typename Request>
  absl::StatusOr<EngineRequest> Accept(grpc::CallbackServerContext& context,
                                       const Request& request) const;
  [[nodiscard]] TokenStream::Parts PartsOfCall();
  [[nodiscard]] Span SpanOf(const grpc::CallbackServerContext& context, const char* method,
                            const char* operation) const;
  absl::Status Refused(const absl::Status& status, const std::string& request_id) const;

  StatusBoard& board_;
  WorkerMetrics& metrics_;
  const Clock& clock_;
  const Options options_;
  SequenceCalls calls_;
  std::atomic<Acceptance> acceptance_ = Acceptance::kOpen;
  std::unique_ptr<Serving> owned_;
  std::atomic<const Serving*> serving_ = nullptr;
};

}  // namespace yangtuo
