#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

// What one .bin file of llama2.c holds (https://github.com/karpathy/llama2.c, run.c and export.py's
// legacy_export): seven sizes and f32 weights in a fixed order, without names. `tensors` have the
// names that llama2.c's own model gives them, which are Meta's ("layers.0.attention.wq.weight"),
// and Meta's row order of wq and wk.
struct Llama2cContents {
  std::int32_t hidden = 0;
  std::int32_t ffn = 0;
  std::int32_t layers = 0;
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t vocab = 0;
  std::int32_t context_tokens = 0;
  bool tied_embeddings = false;  // no output.weight: the embedding stands for it
  std::vector<StoredTensor> tensors = {};
  std::span<const std::byte> header = {};
};

// `bytes` and `file` must outlive the result. DATA_LOSS, naming file and offset, for sizes that
// make no model or a file of another length than they take; UNIMPLEMENTED for the newer versions of
// the format, which begin with "ak42".
absl::StatusOr<Llama2cContents> ParseLlama2c(std::span<const std::byte> bytes,
                                             const std::filesystem::path& file);

// A file, mapped while this lives. Immutable, thread-safe.
class Llama2cFile {
 public:
  static absl::StatusOr<Llama2cFile> Open(const std::filesystem::path& file);
  [[nodiscard]] const Llama2cContents& contents() const;

 private:
  struct State;
  explicit Llama2cFile(std::shared_ptr<const State> state);
  std::shared_ptr<const State> state_;
};

}  // namespace yangtuo
