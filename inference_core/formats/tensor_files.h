#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

// The tensors of one or more safetensors or torch.save files. Files stay mapped while this lives;
// nothing is copied. Immutable, thread-safe.
//
// Errors of all that open: NOT_FOUND (no such files), DATA_LOSS (malformed; names file, tensor and
// offset), UNIMPLEMENTED (of torch files, see torch_checkpoint.h).
class TensorFiles {
 public:
  // `folder` holds model.safetensors, or model.safetensors.index.json and the shards it names, or
  // any other *.safetensors but adapters; the first of these that is there counts.
  static absl::StatusOr<TensorFiles> Open(const std::filesystem::path& folder);
  // The same of pytorch_model.bin, pytorch_model.bin.index.json, other pytorch_model*.bin.
  static absl::StatusOr<TensorFiles> OpenTorch(const std::filesystem::path& folder);
  // One file of either kind, e.g. adapter_model.bin or consolidated.00.pth. Its first bytes tell
  // the kind, not its name.
  static absl::StatusOr<TensorFiles> OpenFile(const std::filesystem::path& file);

  // NOT_FOUND names the nearest tensor name; UNIMPLEMENTED for an element type that is not f32, f16
  // or bf16.
  [[nodiscard]] absl::StatusOr<StoredTensor> Find(const std::string& name) const;
  // Also of other element types, which `unsupported_type` then names. Null when it is not there.
  [[nodiscard]] const StoredTensor* FindStored(const std::string& name) const;
  [[nodiscard]] bool Has(const std::string& name) const;
  // All names in order.
  [[nodiscard]] std::vector<std::string> Names() const;
  // The files in the order in which they were opened.
  [[nodiscard]] std::vector<std::filesystem::path> Files() const;
  // The strings of the files' __metadata__ (safetensors).
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const;

  // SHA-256 over `canonical_config`, the files' headers and sizes, hexadecimal: a weak content
  // digest that costs no reading of the weights.
  [[nodiscard]] std::string WeakDigest(std::string_view canonical_config) const;

 private:
  struct State;
  explicit TensorFiles(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace yangtuo
