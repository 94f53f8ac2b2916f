#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/grammar/answer_constraint.h"
#include "inference_core/model/llama_shard.h"
#include "inference_core/model/stage.h"
#include "inference_core/sampling/sampler.h"
#include "inference_core/tensor/tensor_view.h"

namespace yangtuo {

// The end of a model: keeps what sampling must know of every open sequence, turns the residual
// stream of wanted rows into logits a few rows at a time, and logits into answers.
//
// Not thread-safe; samples sequences in parallel on the shard's compute threads.
class LlamaHead {
 public:
  // `shard` has the head's weights and outlives this. `constraints` may be null: then sequences
  // with one are refused.
  LlamaHead(LlamaShard& shard, std::shared_ptr<AnswerConstraints> constraints);

  // Checks a step against the open sequences, then opens and closes. INVALID_ARGUMENT: rows of an
  // unknown sequence, rows that end where the sequence does not, or a constraint that is none or
  // that the answer so far does not fit; FAILED_PRECONDITION: constraints cannot be held here.
  // Nothing has changed then.
  absl::Status Begin(const Step& step);

  // Answers of a step whose residual stream after the last block is `x` [tokens, hidden]. A
  // sequence fails with INTERNAL when a logit or a value of its embedding is not a finite number
  // (the weights are broken, or the computation is), or when its constraint does not take what was
  // chosen.
  absl::StatusOr<StepResult> Finish(const Step& step, ConstMatrix x);

  // Forgets every sequence.
  void Reset() { sequences_.clear(); }

 private:
  // What the sampler does not do for an answer that must look like something.
  struct Constrained {
    AnswerConstraint constraint;
    std::vector<TokenId> end_ids;
    std::int32_t least_position;  // of the first end id
    bool logprobs;
  };
  struct Sequence {
    SequenceTask task;
    std::vector<TokenId> prompt;  // kept when its log-probabilities are wanted
    bool prompt_logprobs;
    std::int32_t alternatives;
    SequenceSampler sampler;
    std::optional<Constrained> constrained;
    std::vector<double> hidden_sum;  // kEmbed: of positions [0, summed), in order
    std::int32_t summed;
  };
  // A row whose logits are wanted.
  struct LogitsRow {
    std::int64_t row;  // of the step
    SequenceId id;
    Sequence* sequence;
    SampledToken* answer;
    std::optional<TokenId> given;  // the prompt's own token; nullopt: choose one
  };

  [[nodiscard]] absl::Status CheckRows(const Step& step, const StepRows& rows) const;
  absl::StatusOr<Sequence> Open(const SequenceOpen& open) const;
  // Collects the wanted rows and makes room in `result` for their answers.
  void Collect(const Step& step, ConstMatrix x, StepResult& result);
  void Embed(SequenceId id, const Sequence& sequence, StepResult& result);
  void AddHidden(Sequence& sequence, ConstMatrix rows);
  void CollectLogprobs(const StepRows& rows, std::int64_t first_row, Sequence& sequence,
                       StepResult& result);
  // INTERNAL: a bug in the constraint.
  static absl::StatusOr<SampledToken> SampleConstrained(Sequence& sequence,
                                                        std::span<float> logits);
  absl::Status Answer(std::span<const LogitsRow> rows, ConstMatrix x, StepResult& result);

  LlamaShard& shard_;
  std::shared_ptr<AnswerConstraints> constraints_;
  std::map<SequenceId, Sequence> sequences_;
  std::vector<LogitsRow> wanted_;
  AlignedBuffer<float> gathered_;  // [kRowsAtOnce, hidden]
  AlignedBuffer<float> normed_;    // [kRowsAtOnce, hidden]
  AlignedBuffer<float> logits_;    // [kRowsAtOnce, vocab]
};

}  // namespace yangtuo
