#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

// What one safetensors file holds (https://github.com/huggingface/safetensors, README "Format").
struct SafetensorsContents {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;  // of __metadata__
  std::span<const std::byte> header;            // its length and itself
};

// Checks and lists one file's bytes, which with `file` must outlive the result. Sizes, ranges and
// the format's rule that the tensors cover the data exactly hold for what is returned. DATA_LOSS
// names file, tensor and offset. Element types other than F32, F16 and BF16 are listed as
// unsupported.
absl::StatusOr<SafetensorsContents> ReadSafetensors(std::span<const std::byte> bytes,
                                                    const std::filesystem::path& file);

// Its tensors alone.
absl::StatusOr<std::map<std::string, StoredTensor>> ParseSafetensors(
    std::span<const std::byte> bytes, const std::filesystem::path& file);

}  // namespace yangtuo
