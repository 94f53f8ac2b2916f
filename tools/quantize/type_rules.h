#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/conversion_plan.h"

namespace yangtuo {

// "--keep PATTERN=TYPE": tensors whose name matches get another type.
struct KeepRule {
  std::string pattern;  // as fnmatch(3): * is any text
  DType type = DType::kF16;
};

// INVALID_ARGUMENT: no '=', or no type that can be written.
absl::StatusOr<KeepRule> ParseKeepRule(std::string_view text);

// The types of a model quantized to `type`: of the rules that match a tensor the first one holds.
// Without one, norms stay as they are (f32 in a GGUF file, which is exact), matrices get `type`;
// with q4_k the head gets q6_k, as llama.cpp has it: a model is most sensitive there. A tied head
// is the embedding. INVALID_ARGUMENT: a rule that matches no tensor.
absl::StatusOr<TypePolicy> QuantizedTypes(DType type, std::vector<KeepRule> rules,
                                          const Checkpoint& input, CheckpointFormat output);

}  // namespace yangtuo
