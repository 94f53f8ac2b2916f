#pragma once

#include <cstdint>
#include <type_traits>

#include "inference_core/tensor/tensor_view.h"

namespace yangtuo::kernels {

// Rows of equal length at equal distances: a whole matrix, or some columns of one (the queries in
// a [tokens, q | k | v] product, say). Borrowed; copying copies pointer and sizes.
template <typename T>
struct Rows {
  T* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;  // elements from one row to the next

  Rows(T* first, std::int64_t num_rows, std::int64_t num_cols, std::int64_t row_stride)
      : data(first), rows(num_rows), cols(num_cols), stride(row_stride) {}
  // Implicit: a dense matrix is the common case.
  Rows(const TensorView<T, 2>& matrix)
      : Rows(matrix.data(), matrix.dim(0), matrix.dim(1), matrix.dim(1)) {}
  template <typename U>
  requires MutableFormOf<U, T> Rows(const Rows<U>& other)
      : Rows(other.data, other.rows, other.cols, other.stride) {}
  template <typename U>
  requires MutableFormOf<U, T> Rows(const TensorView<U, 2>& matrix)
      : Rows(TensorView<T, 2>(matrix)) {}

  [[nodiscard]] T* Row(std::int64_t row) const { return data + row * stride; }
  // Columns [first, first + count) of every row.
  [[nodiscard]] Rows Columns(std::int64_t first, std::int64_t count) const {
    return Rows(data + first, rows, count, stride);
  }
};

}  // namespace yangtuo::kernels
