#include "inference_core/model/local_stage.h"

#include <utility>

#include "absl/status/status.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {

StepLimits LimitsOf(const StageInfo& info) {
  return {.vocab = info.vocab,
          .context_tokens = info.context_tokens,
          .kv_blocks = info.kv_blocks,
          .max_step_tokens = info.max_step_tokens,
          .hidden = info.first_layer == 0 ? 0 : info.hidden};
}

LocalStage::LocalStage(StageInfo info, std::unique_ptr<LlamaShard> shard,
                       std::shared_ptr<AnswerConstraints> constraints)
    : info_(std::move(info)),
      limits_(LimitsOf(info_)),
      shard_(std::move(shard)),
      head_(*shard_, std::move(constraints)) {}

absl::Status LocalStage::Submit(Step step) {
  YANGTUO_RETURN_IF_ERROR(CheckStep(step, limits_));
  YANGTUO_RETURN_IF_ERROR(head_.Begin(step));
  Outcome outcome;
  outcome.status = Compute(step, outcome.result);
  outcome.result.rows = std::move(step.rows);
  outcomes_.push_back(std::move(outcome));
  return absl::OkStatus();
}

absl::Status LocalStage::Compute(const Step& step, StepResult& result) {
  const TimePoint start = clock_.Now();
  YANGTUO_ASSIGN_OR_RETURN(const ConstMatrix x, shard_->Forward(step));
  YANGTUO_ASSIGN_OR_RETURN(result, head_.Finish(step, x));
  result.compute = clock_.Now() - start;
  return absl::OkStatus();
}

absl::StatusOr<StepResult> LocalStage::Next() {
  if (outcomes_.empty()) {
    return absl::FailedPreconditionError("no step is outstanding");
  }
  Outcome outcome = std::move(outcomes_.front());
  outcomes_.pop_front();
  if (!outcome.status.ok()) {
    return outcome.status;
  }
  return std::move(outcome.result);
}

absl::Status LocalStage::Reset() {
  outcomes_.clear();
  head_.Reset();
  return absl::OkStatus();
}

}  // namespace yangtuo
