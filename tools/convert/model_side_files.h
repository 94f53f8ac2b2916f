#pragma once

#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/model_writer.h"
#include "tools/convert/copy_tensors.h"

namespace yangtuo {

// Puts what belongs beside the tensors into a model's folder: config.json and
// generation_config.json (from the input's where it has them), params.json of Meta's layout, the
// tokenizer with its JSON files. A GGUF file holds all that itself.
absl::Status AddSideFiles(const Checkpoint& input, const OutputModel& output, ModelWriter& writer);

// Adds the manifest of what was written; returns the model's digest.
absl::StatusOr<std::string> AddManifest(const OutputModel& output,
                                        std::span<const CopiedTensor> tensors, ModelWriter& writer);

}  // namespace yangtuo
