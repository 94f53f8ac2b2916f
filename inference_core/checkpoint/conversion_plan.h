#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/tensor_source.h"

namespace yangtuo {

// The type that a tensor is to be stored in. `from` has the model's name and type.
using TypePolicy = std::function<DType(const TensorSpec& from)>;

// Every matrix in `matrices`; norms, which are small and sensitive, in `norms`.
[[nodiscard]] TypePolicy UniformTypes(DType matrices, DType norms);
// Everything as it is.
[[nodiscard]] TypePolicy SameTypes();

// What a change of type does to values.
enum class Fidelity : std::uint8_t {
  kExact,    // every value is kept
  kRounded,  // plain types of which the new one cannot hold every value of the old
  kCoded,    // into blocks with scales
  kRecoded,  // from blocks into other blocks: loses twice
};
[[nodiscard]] Fidelity FidelityOf(DType from, DType to);

struct PlannedTensor {
  TensorSpec from;
  TensorSpec to;
  // The type that the policy asked for, where rows of this length do not divide into its blocks and
  // `to` is 16-bit instead.
  DType asked = DType::kF32;
  [[nodiscard]] bool kept_plain() const { return asked != to.dtype; }
};

// A conversion before it is run. Tensors are those of the source, in its order.
struct ConversionPlan {
  std::vector<PlannedTensor> tensors;
  std::int64_t bytes_read = 0;
  std::int64_t bytes_written = 0;  // of tensors; headers and other files are small beside them
  // Anonymous memory of the run at most: the buffers of `threads` and of what waits to be written.
  std::int64_t memory_bytes = 0;

  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] double bits_per_weight() const;  // of what is written, scales included
};

// Rows of a tensor that are read, converted and written as one piece: about a million elements.
[[nodiscard]] std::int64_t RowsAtOnce(const TensorSpec& spec);

// INVALID_ARGUMENT for a type that cannot be written.
absl::StatusOr<ConversionPlan> PlanConversion(const TensorSource& source, const TypePolicy& policy,
                                              std::int32_t threads);

}  // namespace yangtuo
