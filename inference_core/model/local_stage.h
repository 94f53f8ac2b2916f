#pragma once

#include <deque>
#include <memory>

#include "inference_core/base/clock.h"
#include "inference_core/model/llama_head.h"
#include "inference_core/model/llama_shard.h"
#include "inference_core/model/stage.h"
#include "inference_core/model/step_check.h"

namespace yangtuo {

// The end of a chain: computes a step's remaining layers and answers it, all within Submit. A step
// that passes its checks but cannot be computed is answered by Next with its error.
class LocalStage final : public Stage {
 public:
  // `constraints` may be null.
  LocalStage(StageInfo info, std::unique_ptr<LlamaShard> shard,
             std::shared_ptr<AnswerConstraints> constraints);

  [[nodiscard]] const StageInfo& info() const override { return info_; }
  absl::Status Submit(Step step) override;
  absl::StatusOr<StepResult> Next() override;
  absl::Status Reset() override;

 private:
  absl::Status Compute(const Step& step, StepResult& result);

  StageInfo info_;
  StepLimits limits_;
  SteadyClock clock_;
  std::unique_ptr<LlamaShard> shard_;
  LlamaHead head_;
  // A computed step: its result, or why there is none.
  struct Outcome {
    absl::Status status;
    StepResult result;
  };
  std::deque<Outcome> outcomes_;
};

// What a stage of `info` takes; the first one takes token ids in place of hidden states.
[[nodiscard]] StepLimits LimitsOf(const StageInfo& info);

}  // namespace yangtuo
