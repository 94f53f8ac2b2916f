#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/output_file.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/stored_rows.h"

namespace yangtuo {

// The packed products of a stage in one file, in the order in which they are loaded: what one start
// searched for minutes, the next ones read.
//
// The file, integers little-endian: a page of 4096 bytes with a line of format and version and a
// line with the key; then for each product, from the next page on, its size, checksum and packing
// loss (kRecordBytes) and its parts as kernels::Linear gives them. It appears whole or not at all.
//
// A file is taken for what it says only when its key fits, its sums are right, and one tile of
// every product, packed anew, is equal: a model that was changed in place is noticed.
class PackedWeights {
 public:
  // Reads `file`. NOT_FOUND without one, FAILED_PRECONDITION when it has another key.
  static absl::StatusOr<PackedWeights> Open(const std::filesystem::path& file,
                                            const std::string& key);
  // Writes `file`, which appears on Commit; makes its folder.
  static absl::StatusOr<PackedWeights> Create(const std::filesystem::path& file,
                                              const std::string& key);

  // The next product: read and compared with `parts`, or packed from them and written. DATA_LOSS
  // when the file cannot be what this model was packed to; a file that cannot be written makes no
  // error here.
  absl::StatusOr<kernels::Linear> Product(std::span<const kernels::StoredMatrix> parts,
                                          kernels::MatmulWorkspace& workspace);
  // After the last product. When writing failed, why; then there is no file.
  absl::Status Commit();

  [[nodiscard]] bool reading() const { return mapped_.has_value(); }
  [[nodiscard]] std::int64_t bytes() const { return offset_; }

 private:
  absl::StatusOr<kernels::Linear> Read(std::span<const kernels::StoredMatrix> parts,
                                       kernels::MatmulWorkspace& workspace);
  absl::Status Write(const kernels::Linear& linear, int threads);

  std::filesystem::path path_;
  std::optional<MappedFile> mapped_;
  std::optional<OutputFile> output_;
  absl::Status written_;
  std::int64_t offset_ = 0;    // of the next product
  std::int64_t products_ = 0;  // so far
};

}  // namespace yangtuo
