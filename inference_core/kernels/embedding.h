#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/stored_rows.h"
#include "inference_core/tensor/dtype.h"
#include "inference_core/tensor/tensor_view.h"

namespace yangtuo::kernels {

// Rows of a vocabulary, widened when looked up. Immutable.
class EmbeddingTable {
 public:
  // As they are stored, or rounded to int8 with a scale for every row (half of f16's memory).
  enum class Keep : std::uint8_t { kAsStored, kInt8 };

  // Copies `table` [vocab, hidden]. RESOURCE_EXHAUSTED without memory for it.
  static absl::StatusOr<EmbeddingTable> Copy(const StoredMatrix& table, Keep keep);

  // y[r] = row ids[r]; every id is below vocab().
  void LookUp(std::span<const std::int32_t> ids, Matrix y) const;

  [[nodiscard]] std::int64_t vocab() const { return vocab_; }

 private:
  EmbeddingTable(AlignedBuffer<std::byte> rows, DType dtype, std::int64_t vocab)
      : rows_(std::move(rows)), dtype_(dtype), vocab_(vocab) {}

  AlignedBuffer<std::byte> rows_;
  DType dtype_;
  std::int64_t vocab_;
};

}  // namespace yangtuo::kernels
