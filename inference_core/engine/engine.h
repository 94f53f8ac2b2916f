#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "inference_core/model/stage.h"
#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

struct EngineOptions {
  // Rows of one step: one for every running sequence first, then prompt chunks. Bounds the length
  // of a step and so the delay of a cancellation.
  std::int32_t step_tokens = 256;
  // Largest number of prompt rows of one sequence in a step; 0: no limit but step_tokens.
  std::int32_t prompt_chunk = 0;
  std::int32_t max_running = 64;
  // Requests beyond these wait; beyond that Submit refuses with RESOURCE_EXHAUSTED.
  std::int32_t max_waiting = 256;
  std::int64_t max_waiting_tokens = 262144;
  // How long sequences wait for a lost shard before they fail with UNAVAILABLE.
  Duration recovery_limit = std::chrono::seconds(10);
  // Pause between attempts to reset the stage.
  Duration recovery_pause = std::chrono::milliseconds(500);
};

enum class FinishReason { kStop, kLength };

// How a sequence ended. `status` OK: by itself, and the other fields say how.
struct SequenceOutcome {
  absl::Status status;
  FinishReason reason = FinishReason::kStop;
  std::optional<TokenId> stop_token =
      std::nullopt;                   // the end or stop token, not delivered as a token
  std::int32_t generated_tokens = 0;  // computed here, stop token included, resumed ones not
  Duration queue{};                   // submission to first computation
};

// Receives one sequence's output. Every method is called on the engine's thread and must not block.
// OnFinished is called exactly once and last; the engine touches the sink no more afterwards, so it
// may delete itself there.
class SequenceSink {
 public:
  virtual ~SequenceSink() = default;
  virtual void OnToken(SampledToken token) = 0;
  // Parts in prompt order, all before the first token.
  virtual void OnPromptLogprobs(std::span<const SampledToken> entries) = 0;
  virtual void OnEmbedding(std::vector<float> values) = 0;
  virtual void OnFinished(const SequenceOutcome& outcome) = 0;
};

struct EngineRequest {
  SequenceTask task = SequenceTask::kGenerate;
  std::vector<TokenId> prompt_ids;   // at least one
  std::vector<TokenId> resumed_ids;  // answer tokens that exist already; not delivered again
  SamplingParams sampling;           // end_ids is set by the engine from stop_ids
  // Ends the sequence, not delivered: the model's EOS unless ignored, and the request's stop ids.
  std::vector<TokenId> stop_ids;
  std::optional<std::int32_t> max_new_tokens;  // default: the rest of the context
  bool prompt_logprobs = false;
  std::int32_t priority = 0;  // higher runs first
  std::optional<TimePoint> deadline;
};

struct EngineLoad {
  std::int32_t running = 0;
  std::int32_t waiting = 0;
  std::int32_t kv_blocks_total = 0;
  std::int32_t kv_blocks_free = 0;
  std::int64_t pending_prompt_tokens = 0;
  double tokens_per_second = 0;  // generated, over the last five seconds
  bool stage_ok = true;          // false while a lost shard is being recovered
};

// What one step did, for metrics.
struct StepStats {
  std::int32_t decode_rows = 0;
  std::int32_t prompt_rows = 0;
  std::int32_t sequences = 0;
  std::int32_t preempted = 0;
  Duration compute{};  // summed over shards
  Duration wait{};     // engine thread waiting for results of other shards
  Duration total{};    // submission to result
};

// Continuous batching over a Stage. One thread, owned here, is the only one that touches the
// scheduler, the KV block pool and the stage. All public methods are thread-safe.
class Engine {
 public:
  // `observe_step` (may be empty) runs on the engine thread after every step. `clock` outlives the
  // engine.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineOptions& options, std::unique_ptr<Stage> stage, const Clock& clock,
      std::function<void(const StepStats&)> observe_step);

  // Fails every sequence with CANCELLED and joins the thread.
  virtual ~Engine() = default;

  // Takes a request or refuses it at once: INVALID_ARGUMENT (empty or too long a prompt, id outside
  // the vocabulary; the message has the numbers), RESOURCE_EXHAUSTED (queue full), UNAVAILABLE
  // (draining, or a shard is lost). After OK, `sink` gets exactly one OnFinished.
  virtual absl::StatusOr<SequenceId> Submit(EngineRequest request, SequenceSink* sink) = 0;

  // Ends a sequence with CANCELLED and frees its blocks within one step. Unknown ids are ignored.
  virtual void Cancel(SequenceId id) = 0;

  [[nodiscard]] virtual EngineLoad load() const = 0;
  [[nodiscard]] virtual const StageInfo& stage_info() const = 0;

  // Refuse new requests from now on.
  virtual void StopAccepting() = 0;
  // True when nothing runs or waits before `deadline`.
  virtual bool WaitUntilIdle(TimePoint deadline) = 0;
};

}  // namespace yangtuo
