#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/model/stage.h"
#include "yangtuo/internal/v1/shard.pb.h"

// Translation between the stage seam and its wire form. Pure functions. Decoding checks everything
// that a faulty peer could get wrong, because the stage behind trusts its steps.
namespace yangtuo {

internal::v1::StepRequest EncodeStep(const Step& step);

// `stage` is what will run the step: vocabulary, context, KV blocks and rows bound its values.
// INVALID_ARGUMENT names the step, the field and the bound.
absl::StatusOr<Step> DecodeStep(const internal::v1::StepRequest& request, const StageInfo& stage);

internal::v1::StepResponse EncodeStepResult(const StepResult& result);
internal::v1::StepResponse EncodeStepError(std::uint64_t step_id, const absl::Status& error);

// The error that the response carries, if it carries one. DATA_LOSS for values that no shard of
// `stage`'s model can have sent.
absl::StatusOr<StepResult> DecodeStepResult(const internal::v1::StepResponse& response,
                                            const StageInfo& stage);

}  // namespace yangtuo
