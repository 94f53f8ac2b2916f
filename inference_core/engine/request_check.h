#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "inference_core/engine/engine.h"
#include "inference_core/model/stage.h"

namespace yangtuo {

// INVALID_ARGUMENT naming the limit that is wrong, and what the stage takes.
[[nodiscard]] absl::Status CheckOptions(const EngineOptions& options, const StageInfo& info);

// INVALID_ARGUMENT when a request can never be computed on this stage, with the numbers.
[[nodiscard]] absl::Status CheckRequest(const EngineRequest& request, const StageInfo& info);

// What prompt and answer together may grow to: the request's own limit, the context, and the whole
// KV cache. A sequence below it always fits when it runs alone.
[[nodiscard]] std::int32_t TokenLimit(const EngineRequest& request, const StageInfo& info);

}  // namespace yangtuo
