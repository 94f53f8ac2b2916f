#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/tensor/tensor_spec.h"

namespace yangtuo {

// The tensors of a model with Hugging Face's names and row order (rotary halves apart, not
// interleaved), read a few rows at a time. Immutable; ReadRows from any thread.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // In a fixed order: the same for the same files.
  [[nodiscard]] virtual const std::vector<TensorSpec>& tensors() const = 0;

  // Rows [first, first + count) of tensors()[index], as stored, into count * row_bytes() bytes.
  // DATA_LOSS names file, tensor and offset.
  virtual absl::Status ReadRows(std::size_t index, std::int64_t first, std::int64_t count,
                                std::span<std::byte> rows) const = 0;

  // The same rows where they lie, when they are in memory in this order already; else empty.
  [[nodiscard]] virtual std::span<const std::byte> Mapped(std::size_t index) const = 0;

  // Says that tensors()[index] is not needed again soon, so that its pages need not stay.
  virtual void Forget(std::size_t index) const = 0;

  // Where a tensor lies, for messages.
  [[nodiscard]] virtual std::string Origin(std::size_t index) const = 0;
};

// The place of `name` in source.tensors(). NOT_FOUND names the nearest.
absl::StatusOr<std::size_t> FindTensor(const TensorSource& source, std::string_view name);

}  // namespace yangtuo
