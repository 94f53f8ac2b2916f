#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/tensor/tensor_spec.h"

namespace yangtuo {

// One or more files that are written a few rows at a time. Which tensors there are was said when
// the writer was made, and so their disk was taken then (RESOURCE_EXHAUSTED when there is too
// little). The files appear under their names when Finish is OK and never otherwise
// (base/output_file.h). One thread.
class TensorFileWriter {
 public:
  virtual ~TensorFileWriter() = default;

  // The next whole rows of tensor `index`. Tensors come in any order and may take turns, the rows
  // of one in theirs. INVALID_ARGUMENT for parts of rows or more than the tensor has.
  virtual absl::Status Append(std::size_t index, std::span<const std::byte> rows) = 0;

  // FAILED_PRECONDITION names a tensor whose rows are missing.
  virtual absl::Status Finish() = 0;
};

// Hugging Face's files of a model in `folder`, which must be there: model.safetensors or
// pytorch_model.bin; with more bytes of tensors than `max_shard_bytes`, numbered shards and their
// index. A tensor larger than that has a shard of its own.
struct ModelFilesOptions {
  std::uint64_t max_shard_bytes = std::numeric_limits<std::uint64_t>::max();
  // Further strings for __metadata__ (safetensors only), where "format" is "pt".
  std::map<std::string, std::string> metadata = {};
};
absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewSafetensorsModelWriter(
    const std::filesystem::path& folder, const std::vector<TensorSpec>& tensors,
    const ModelFilesOptions& options);
absl::StatusOr<std::unique_ptr<TensorFileWriter>> NewTorchModelWriter(
    const std::filesystem::path& folder, const std::vector<TensorSpec>& tensors,
    const ModelFilesOptions& options);

}  // namespace yangtuo
