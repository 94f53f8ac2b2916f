#pragma once

#include <deque>
#include <memory>

#include "inference_core/base/clock.h"
#include "inference_core/model/llama_shard.h"
#include "inference_core/model/stage.h"
#include "inference_core/model/step_check.h"

namespace yangtuo {

// A link of a chain: computes its own layers within Submit and hands the residual stream to the
// next stage, whose answers it returns.
class PipelineStage final : public Stage {
 public:
  PipelineStage(StageInfo info, std::unique_ptr<LlamaShard> shard, std::unique_ptr<Stage> next);

  [[nodiscard]] const StageInfo& info() const override { return info_; }
  absl::Status Submit(Step step) override;
  absl::StatusOr<StepResult> Next() override;
  absl::Status Reset() override;

 private:
  StageInfo info_;
  StepLimits limits_;
  SteadyClock clock_;
  std::unique_ptr<LlamaShard> shard_;
  std::unique_ptr<Stage> next_;
  std::deque<Duration> computed_;  // own time of every outstanding step
};

}  // namespace yangtuo
