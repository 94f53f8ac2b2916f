#include "inference_core/model/pipeline_stage.h"

#include <utility>

#include "absl/status/status.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/model/local_stage.h"

namespace yangtuo {

PipelineStage::PipelineStage(StageInfo info, std::unique_ptr<LlamaShard> shard,
                             std::unique_ptr<Stage> next)
    : info_(std::move(info)),
      limits_(LimitsOf(info_)),
      shard_(std::move(shard)),
      next_(std::move(next)) {}

absl::Status PipelineStage::Submit(Step step) {
  YANGTUO_RETURN_IF_ERROR(CheckStep(step, limits_));
  const TimePoint start = clock_.Now();
  YANGTUO_ASSIGN_OR_RETURN(const ConstMatrix x, shard_->Forward(step));
  step.hidden.assign(x.data(), x.data() + x.size());
  const Duration computed = clock_.Now() - start;
  YANGTUO_RETURN_IF_ERROR(next_->Submit(std::move(step)));
  computed_.push_back(computed);
  return absl::OkStatus();
}

absl::StatusOr<StepResult> PipelineStage::Next() {
  if (computed_.empty()) {
    return absl::FailedPreconditionError("no step is outstanding");
  }
  absl::StatusOr<StepResult> result = next_->Next();
  // A lost peer voids all steps; any other error is the answer to one.
  if (absl::IsUnavailable(result.status())) {
    computed_.clear();
    return result;
  }
  if (result.ok()) {
    result->compute += computed_.front();
  }
  computed_.pop_front();
  return result;
}

absl::Status PipelineStage::Reset() {
  computed_.clear();
  return next_->Reset();
}

}  // namespace yangtuo
