#pragma once

#include <filesystem>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"

namespace yangtuo {

// A Hugging Face folder, of kSafetensors or kTorchBin files. Every tensor that the configuration
// calls for is there with its shape: NOT_FOUND and INVALID_ARGUMENT name file, tensor and what was
// found. Others (rotary tables) are left out.
absl::StatusOr<Checkpoint> OpenHfFolder(const std::filesystem::path& folder,
                                        CheckpointFormat format);

}  // namespace yangtuo
