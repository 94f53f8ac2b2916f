#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// Where one tensor lies in a file. Offsets were checked against the file's size.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  // outermost first
  std::span<const std::byte> data;  // row-major, little endian; alignment not guaranteed
  const std::filesystem::path* file = nullptr;  // for messages
  // The file's name of an element type that DType does not have; `dtype` means nothing then.
  // TensorFiles::Find never returns such a tensor.
  std::string unsupported_type = {};
};

// The tensors of a safetensors model (https://github.com/huggingface/safetensors, README "Format"):
// one file, or the shards of a model.safetensors.index.json. Files stay mapped while this lives;
// nothing is copied. Immutable, thread-safe.
class TensorFiles {
 public:
  // `folder` holds model.safetensors, or model.safetensors.index.json and the shards it names, or
  // any other *.safetensors but adapters; the first of these that is there counts. Errors:
  // NOT_FOUND (no such files), DATA_LOSS (malformed; names file, tensor and offset), UNIMPLEMENTED
  // (an element type that is not F32, F16 or BF16, reported when that tensor is asked for, not
  // before).
  static absl::StatusOr<TensorFiles> Open(const std::filesystem::path& folder);

  // NOT_FOUND names the nearest tensor name.
  [[nodiscard]] absl::StatusOr<StoredTensor> Find(const std::string& name) const;
  [[nodiscard]] bool Has(const std::string& name) const;
  // All names in order.
  [[nodiscard]] std::vector<std::string> Names() const;

  // SHA-256 over `canonical_config`, the files' headers and sizes, hexadecimal: a weak content
  // digest that costs no reading of the weights.
  [[nodiscard]] std::string WeakDigest(std::string_view canonical_config) const;

 private:
  struct State;
  explicit TensorFiles(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

// Checks and lists the tensors of one file's bytes, which with `file` must outlive the result.
// Sizes, ranges and the format's rule that the tensors cover the data exactly hold for what is
// returned.
absl::StatusOr<std::map<std::string, StoredTensor>> ParseSafetensors(
    std::span<const std::byte> bytes, const std::filesystem::path& file);

}  // namespace yangtuo
