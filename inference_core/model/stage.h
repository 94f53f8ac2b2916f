#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "inference_core/grammar/grammar_spec.h"
#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// Names one sequence (one choice of one request) among all shards of a group. Never reused within
// an engine's life.
using SequenceId = std::uint64_t;

enum class SequenceTask {
  kGenerate,  // the wanted output of a row is the next token
  kEmbed,     // the wanted output of the last row is the mean of all final hidden states
};

// What the head of the model must know about a sequence. Sent once, before its first rows.
struct SequenceOpen {
  SequenceId id = 0;
  SequenceTask task = SequenceTask::kGenerate;
  std::vector<TokenId> prompt_ids;
  // Answer tokens that exist already (a resumed or recomputed sequence). The head appends what it
  // samples itself.
  std::vector<TokenId> emitted_ids;
  SamplingParams sampling;
  // What the answer must look like; the head must be able to (StageInfo::constrains).
  std::optional<GrammarSpec> constraint = std::nullopt;
  bool prompt_logprobs = false;
  // Where the request is traced, for shards that report their part of it; not read by stages.
  std::string traceparent;
};

// Consecutive positions of one sequence, computed in one step.
struct StepRows {
  SequenceId id = 0;
  std::int32_t first_position = 0;
  std::vector<TokenId> token_ids;
  // KV blocks of positions 0 .. first_position + token_ids.size() - 1, in order; block b of the
  // table holds positions [b * block_size, (b + 1) * block_size).
  std::vector<std::int32_t> kv_blocks;
  // Sample (or pool) after the last row. Rows of prompt chunks before the last one want nothing.
  bool want_output = false;
};

// One forward pass over a ragged batch. A sequence appears at most once in `rows`; several steps in
// flight may hold consecutive chunks of one prompt.
struct Step {
  std::uint64_t id = 0;  // 1, 2, 3... in submission order
  std::vector<SequenceOpen> opens;
  std::vector<SequenceId> closes;  // applied after the opens, before the rows; unknown ids ignored
  std::vector<StepRows> rows;
  // Residual stream of all rows in order, [tokens, hidden] f32; empty at the first stage, which
  // looks the tokens up. Between stages it travels in this type, so that a cut changes no bit.
  std::vector<float> hidden;

  [[nodiscard]] std::int64_t num_tokens() const {
    std::int64_t tokens = 0;
    for (const StepRows& r : rows) {
      tokens += static_cast<std::int64_t>(r.token_ids.size());
    }
    return tokens;
  }
};

struct SequenceSample {
  SequenceId id = 0;
  SampledToken token;
};

// Entry i is the prompt's own token at position first_position + i (>= 1).
struct PromptLogprobs {
  SequenceId id = 0;
  std::int32_t first_position = 0;
  std::vector<SampledToken> entries;
};

struct SequenceEmbedding {
  SequenceId id = 0;
  std::vector<float> values;  // [hidden], unit length
};

// Why the rows of one sequence gave no usable answer. The others of the step are not concerned.
struct SequenceFailure {
  SequenceId id = 0;
  absl::Status status;  // not OK
};

struct StepResult {
  std::uint64_t id = 0;
  std::vector<SequenceSample> samples;
  std::vector<PromptLogprobs> prompt_logprobs;
  std::vector<SequenceEmbedding> embeddings;
  // At most one a sequence, which then has no sample and no embedding; its prompt's
  // log-probabilities of this step are worth nothing.
  std::vector<SequenceFailure> failures = {};
  Duration compute{};  // summed over the stages behind this one, itself included
  // The step's rows, back for their memory when they did not have to travel; else empty.
  std::vector<StepRows> rows;
};

// What a stage (with all stages behind it) is and can hold.
struct StageInfo {
  std::string model_digest;
  // Weight type + KV type + instruction-set path + engine numerics version. With the digest it
  // makes the numerics id: same id, same tokens.
  std::string numerics;
  std::string weight_type;  // "f32", "bf16", "int8", "int4" or "gguf"
  // What became of this stage's own packed weights, for people: "read ...", "written ...", "not
  // written: ..."; empty where none are kept.
  std::string packed_weights = {};
  std::int32_t first_layer = 0;
  std::int32_t num_layers = 0;  // of the whole model
  std::int32_t hidden = 0;
  std::int32_t vocab = 0;
  std::int32_t context_tokens = 0;
  std::int32_t kv_block_size = 0;
  std::int32_t kv_blocks = 0;        // the smallest over the stages
  std::int32_t max_step_tokens = 0;  // rows that one step may have
  std::int32_t depth = 1;            // stages in the chain: steps worth having in flight
  bool constrains = false;  // answers are held to constraints: checked here, held at the head
  // Root mean squared error of this stage's own weights against the file's, relative to theirs,
  // where they were quantized as they were loaded; of one row in sixteen. 0: they are the file's.
  double weights_error = 0.0;
  // What this stage's own part of a step reads: of weights, once for all rows, and of keys and
  // values, for each position that a row looks back at.
  std::int64_t weight_bytes = 0;
  std::int64_t kv_token_bytes = 0;
};

// The seam between computing and the network: runs layers [first_layer, num_layers) of a model,
// here or on other machines. The last stage samples; logits never leave it.
//
// Not thread-safe: one owner drives it (the engine's step loop, or a shard's stream).
class Stage {
 public:
  virtual ~Stage() = default;

  [[nodiscard]] virtual const StageInfo& info() const = 0;

  // Starts a step; its result comes from Next, in order. Returns once the step's own layers here
  // are computed and the rest is on its way. Errors: UNAVAILABLE (a peer is gone), INTERNAL (a
  // bug).
  virtual absl::Status Submit(Step step) = 0;

  // The oldest outstanding result; waits for it. UNAVAILABLE when a peer is lost or hung (every
  // outstanding step is void then, see Reset), FAILED_PRECONDITION when nothing is outstanding.
  virtual absl::StatusOr<StepResult> Next() = 0;

  // Voids all sequences, KV contents and outstanding steps, and connects lost peers again: one
  // bounded attempt, to be repeated by the owner. After OK the stage is as new.
  virtual absl::Status Reset() = 0;
};

}  // namespace yangtuo
