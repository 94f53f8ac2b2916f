#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// Readers refuse tensors of more elements than this, the sizes of 0 left out: so no product of some
// sizes and an element's bytes overflows, not even of an empty tensor.
inline constexpr std::int64_t kMostElements = std::int64_t{1} << 56;

// Where one tensor lies in a file. Offsets were checked against the file's size.
struct StoredTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;  // outermost first
  // Little endian; alignment not guaranteed. Row-major, unless there are `strides`.
  std::span<const std::byte> data;
  const std::filesystem::path* file = nullptr;  // for messages
  // The file's name of an element type that DType does not have, e.g. "I8"; `dtype` means nothing
  // then.
  std::string unsupported_type = {};
  // Only of a torch tensor that is not row-major, e.g. one saved transposed: element (i, j, ...)
  // lies i * strides[0] + j * strides[1] + ... elements behind the first of `data`.
  std::vector<std::int64_t> strides = {};

  // Of a tensor whose type is supported. A row is what the last axis spans: a vector is one row.
  [[nodiscard]] std::int64_t rows() const;
  [[nodiscard]] std::int64_t cols() const { return shape.empty() ? 1 : shape.back(); }
  [[nodiscard]] std::int64_t bytes_per_row() const { return RowBytes(dtype, cols()); }
};

// Rows [first, first + count) of a supported type in row-major order into `rows`, which has
// count * bytes_per_row() bytes, whatever the strides.
void CopyRows(const StoredTensor& tensor, std::int64_t first, std::int64_t count,
              std::span<std::byte> rows);

}  // namespace yangtuo
