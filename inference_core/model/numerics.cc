#include "inference_core/model/numerics.h"

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/kernels/row_policy.h"
#include "inference_core/model/llama_weights.h"

namespace yangtuo {
namespace {

// Raised whenever our own kernels change a bit of what they compute.
constexpr int kNumericsVersion = 1;

}  // namespace

absl::StatusOr<Numerics> DecideNumerics(const LlamaConfig& config, WeightType type, int threads,
                                        std::int32_t max_step_tokens) {
  const bool bf16 =
      type == WeightType::kBF16 || (type == WeightType::kAuto && kernels::HasFastBf16());
  Numerics numerics;
  numerics.weight_type = bf16 ? "bf16" : "f32";
  numerics.matmul.type = bf16 ? kernels::MatmulType::kBF16 : kernels::MatmulType::kF32;
  numerics.matmul.threads = threads;
  const std::vector<kernels::MatmulShape> shapes = MatmulShapes(config);
  const absl::StatusOr<kernels::RowPolicyFinding> finding =
      kernels::FindRowPolicy({.type = numerics.matmul.type,
                              .shapes = shapes,
                              .threads = threads,
                              .max_rows = max_step_tokens});
  if (!finding.ok()) {
    return absl::Status(
        finding.status().code(),
        absl::StrFormat("weight type %s on this CPU (%s): %s", numerics.weight_type,
                        kernels::MatmulInstructionSet(), std::string(finding.status().message())));
  }
  numerics.matmul.row_policy = finding->policy;
  numerics.name = absl::StrFormat("%s/kv-f32/%s/%s/%08x/v%d", numerics.weight_type,
                                  kernels::MatmulInstructionSet(), finding->policy.Name(),
                                  finding->fingerprint, kNumericsVersion);
  return numerics;
}

}  // namespace yangtuo
