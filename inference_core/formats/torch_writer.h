#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/formats/tensor_file_writer.h"

namespace yangtuo {

// Writes one file that torch.load reads as an OrderedDict of names and tensors, also with
// weights_only. Each tensor has a storage of its own. INVALID_ARGUMENT for other types than f32,
// f16 and bf16.
absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewTorchWriter(
    const std::filesystem::path& target, const std::vector<TensorSpec>& tensors);

}  // namespace yangtuo
