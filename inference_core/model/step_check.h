#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "inference_core/model/stage.h"

namespace yangtuo {

// What a stage can take.
struct StepLimits {
  std::int32_t vocab = 0;
  std::int32_t context_tokens = 0;
  std::int32_t kv_blocks = 0;
  std::int32_t max_step_tokens = 0;
  std::int32_t hidden = 0;  // width of step.hidden; 0 at the first stage, which takes none
};

// INVALID_ARGUMENT when computing `step` could touch memory that is not its own or give nonsense:
// steps come from other machines. Looks at the step alone; what needs memory of earlier steps is
// checked by the head.
absl::Status CheckStep(const Step& step, const StepLimits& limits);

}  // namespace yangtuo
