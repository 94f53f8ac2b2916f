#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo::kernels {

// A matrix [out, in] as a model stores it: rows of RowBytes(dtype, in), one below the other.
struct StoredMatrix {
  const std::byte* data = nullptr;  // at any alignment; null: `read` gives the rows
  DType dtype = DType::kF32;
  std::int64_t out = 0;
  std::int64_t in = 0;
  // Rows [first, first + count), from any thread.
  std::function<absl::Status(std::int64_t first, std::int64_t count, std::span<std::byte> rows)>
      read = {};
};

// Several matrices put one below the other, read row by row. One thread; every thread has its own.
class RowReader {
 public:
  // `parts` outlive this.
  explicit RowReader(std::span<const StoredMatrix> parts) : parts_(parts) {}

  struct Row {
    DType dtype = DType::kF32;
    std::span<const std::byte> bytes;  // until the next call
  };
  // Row `row` of all. Errors are those of StoredMatrix::read.
  absl::StatusOr<Row> Read(std::int64_t row);
  // The same, widened.
  absl::Status Widen(std::int64_t row, std::span<float> y);

 private:
  absl::StatusOr<Row> ReadFrom(const StoredMatrix& part, std::int64_t row);

  std::span<const StoredMatrix> parts_;
  // Rows [first_, first_ + count_) of `buffered_`, which are read a few at a time.
  const StoredMatrix* buffered_ = nullptr;
  std::int64_t first_ = 0;
  std::int64_t count_ = 0;
  std::vector<std::byte> buffer_;
};

// Inputs and outputs of matrices put one below the other. INVALID_ARGUMENT when they do not fit
// together.
struct StackedShape {
  std::int64_t in = 0;
  std::int64_t out = 0;
};
absl::StatusOr<StackedShape> ShapeOf(std::span<const StoredMatrix> parts);

}  // namespace yangtuo::kernels
