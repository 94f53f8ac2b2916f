#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/model/llama_stage.h"

namespace yangtuo {

// The one function of weights and tokens that this process computes for a model, and its name.
struct Numerics {
  kernels::MatmulOptions matmul;
  std::string weight_type;  // "f32" or "bf16"
  // "<weights>/kv-<type>/<instruction set>/<row policy>/<fingerprint of products>/v<version>".
  // Equal names, equal bits: the fingerprint covers what else decides how oneDNN sums (cache sizes
  // and its own version, say).
  std::string name;
};

// Runs the self-test of the model's product shapes (see kernels::FindRowPolicy). UNIMPLEMENTED when
// this CPU cannot compute with `type`.
absl::StatusOr<Numerics> DecideNumerics(const LlamaConfig& config, WeightType type, int threads,
                                        std::int32_t max_step_tokens);

}  // namespace yangtuo
