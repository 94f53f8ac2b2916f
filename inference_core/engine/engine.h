#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "inference_core/grammar/grammar_spec.h"
#include "inference_core/kv_cache/block_key.h"
#include "inference_core/model/stage.h"
#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// Whether KV blocks of earlier requests are used again by those that begin alike.
enum class PrefixCache { kOn, kOff };

struct EngineOptions {
  // Rows of one step: one for every running sequence first, then prompt chunks. Bounds the length
  // of a step and so the delay of a cancellation.
  std::int32_t step_tokens = 256;
  // A step that decodes takes only so many prompt rows that it lasts about this long, as far as
  // earlier steps tell; 0: no such limit. See PromptRowsWithin.
  Duration target_step = std::chrono::milliseconds(200);
  // But this many whatever they cost, so that prompts advance while others decode.
  std::int32_t least_prompt_rows = 16;
  // Largest number of prompt rows of one sequence in a step; 0: no limit but step_tokens.
  std::int32_t prompt_chunk = 0;
  std::int32_t max_running = 64;
  // Requests beyond these wait; beyond that Submit refuses with RESOURCE_EXHAUSTED.
  std::int32_t max_waiting = 256;
  std::int64_t max_waiting_tokens = 262144;
  PrefixCache prefix_cache = PrefixCache::kOn;
  // How long sequences wait for a lost shard before they fail with UNAVAILABLE.
  Duration recovery_limit = std::chrono::seconds(10);
  // Pause between attempts to reset the stage.
  Duration recovery_pause = std::chrono::milliseconds(500);
};

enum class FinishReason { kStop, kLength };

// What a sequence's steps took, those of other sequences in the same batches included.
struct StepTotals {
  std::int32_t steps = 0;
  std::int32_t preemptions = 0;
  Duration compute{};  // summed over steps and shards
  Duration wait{};     // of the engine's thread for results of other shards
};

// How a sequence ended. `status` OK: by itself, and the other fields say how.
struct SequenceOutcome {
  absl::Status status;
  FinishReason reason = FinishReason::kStop;
  std::optional<TokenId> stop_token =
      std::nullopt;                   // the end or stop token, not delivered as a token
  std::int32_t generated_tokens = 0;  // computed here, stop token included, resumed ones not
  Duration queue{};                   // submission to first computation
  StepTotals totals = {};
};

// Receives one sequence's output. Every method is called on the engine's thread and must not block.
// OnFinished is called exactly once and last; the engine touches the sink no more afterwards, so it
// may delete itself there.
class SequenceSink {
 public:
  virtual ~SequenceSink() = default;
  // Before everything else, when the first computation begins; not for a sequence that ends without
  // one. `cached_prompt_tokens` of the prompt were computed for an earlier request.
  virtual void OnStarted(std::int32_t cached_prompt_tokens) = 0;
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
  std::optional<GrammarSpec> constraint = std::nullopt;  // of the answer's text; needs a stop id
  // Ends the sequence, not delivered: the model's EOS unless ignored, and the request's stop ids.
  std::vector<TokenId> stop_ids;
  std::optional<std::int32_t> max_new_tokens;  // default: the rest of the context
  bool prompt_logprobs = false;
  std::int32_t priority = 0;  // higher runs first
  // Tenants get equal shares of what their priority leaves. Empty: one nameless tenant.
  std::string tenant;
  // Requests with different salts share no KV blocks.
  std::string cache_salt;
  std::optional<TimePoint> deadline;
  // As in SequenceOpen.
  std::string traceparent;
};

struct EngineLoad {
  std::int32_t running = 0;
  std::int32_t waiting = 0;
  std::int32_t kv_blocks_total = 0;
  std::int32_t kv_blocks_free = 0;    // held by nobody, with or without content
  std::int32_t kv_blocks_cached = 0;  // those of them with content that requests can find
  std::int64_t pending_prompt_tokens = 0;
  double tokens_per_second = 0;  // generated, over the last five seconds
  bool stage_ok = true;          // false while a lost shard is being recovered
};

// How the keys of reusable KV blocks are made, for whoever wants to know which group has a prefix.
struct PrefixScheme {
  std::string_view name;        // kBlockKeyScheme
  std::int32_t block_size = 0;  // ids of a block
  BlockKey root;                // parent of the first block's key, without a salt
};

// What one step did, for metrics.
struct StepStats {
  std::int32_t decode_rows = 0;
  std::int32_t prompt_rows = 0;
  std::int32_t sequences = 0;
  std::int32_t preempted = 0;
  // Of the sequences that began with this step: tokens they knew, and those of them that need not
  // be computed. Sequences that must compute everything (embeddings) count in neither.
  std::int32_t prefix_queries = 0;
  std::int32_t prefix_hits = 0;
  std::int32_t evictions = 0;  // KV blocks that lost findable content
  Duration compute{};          // summed over shards
  Duration wait{};             // engine thread waiting for results of other shards
  Duration total{};            // submission to result
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
  // the vocabulary; the message has the numbers), FAILED_PRECONDITION (a constraint that cannot be
  // held here), RESOURCE_EXHAUSTED (queue full), UNAVAILABLE (draining, or a shard is lost). After
  // OK, `sink` gets exactly one OnFinished.
  virtual absl::StatusOr<SequenceId> Submit(EngineRequest request, SequenceSink* sink) = 0;

  // Ends a sequence with CANCELLED and frees its blocks within one step. Unknown ids are ignored.
  virtual void Cancel(SequenceId id) = 0;

  [[nodiscard]] virtual EngineLoad load() const = 0;
  [[nodiscard]] virtual const StageInfo& stage_info() const = 0;
  // Nullopt when KV blocks are not used again.
  [[nodiscard]] virtual const std::optional<PrefixScheme>& prefix_scheme() const = 0;

  // Refuse new requests from now on.
  virtual void StopAccepting() = 0;
  // True when nothing runs or waits before `deadline`.
  virtual bool WaitUntilIdle(TimePoint deadline) = 0;
};

}  // namespace yangtuo
