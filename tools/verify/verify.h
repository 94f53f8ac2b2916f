#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/known_files.h"
#include "inference_core/checkpoint/manifest.h"

namespace yangtuo {

// The content of a model, read through once.
absl::StatusOr<Manifest> DigestModel(const Checkpoint& checkpoint, std::int32_t threads,
                                     const std::function<void(std::int64_t bytes_read)>& progress);

// How a tensor differs from another of its name.
struct TensorDifference {
  enum class Kind : std::uint8_t {
    kMissing,     // here, but not there
    kAdded,       // there, but not here
    kShape,       // of other shapes
    kType,        // of other types with the same values
    kValues,      // in `values` places, by at most `largest`
    kUnmeasured,  // of other content; the other side is a manifest, which has no values
  };
  std::string name;
  Kind kind = Kind::kMissing;
  TensorSpec here;
  TensorSpec there;
  std::int64_t values = 0;
  double largest = 0;
};

// What differs between two manifests. With both sources also by how much: only tensors that differ
// are read again. Empty: the same tensors (configurations aside).
absl::StatusOr<std::vector<TensorDifference>> CompareModels(const Manifest& here,
                                                            const Manifest& there,
                                                            const TensorSource* here_values,
                                                            const TensorSource* there_values);

// One line, without the newline: "tensor NAME: 3 of 65536 values differ, by at most 0.5".
[[nodiscard]] std::string DescribeDifference(const TensorDifference& difference);

// A file of the model that was looked up among the published ones.
struct FileDigest {
  std::filesystem::path path;
  std::string sha256;
  const KnownFile* known = nullptr;  // none: not among them
};

// The tokenizer and, of Meta's layout, the shards: files that publishers list by SHA-256.
[[nodiscard]] std::vector<std::filesystem::path> PublishedFilesOf(const Checkpoint& checkpoint);
absl::StatusOr<FileDigest> DigestFile(const std::filesystem::path& path,
                                      const std::function<void(std::int64_t bytes_read)>& progress);

}  // namespace yangtuo
