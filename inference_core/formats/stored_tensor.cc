#include "inference_core/formats/stored_tensor.h"

#include <cassert>
#include <cstring>

namespace yangtuo {
namespace {

// How many elements behind the first of the tensor's data row `row` begins.
std::int64_t StridedStart(const StoredTensor& tensor, std::int64_t row) {
  std::int64_t start = 0;
  for (std::size_t axis = tensor.shape.size() - 1; axis-- > 0;) {
    start += row % tensor.shape[axis] * tensor.strides[axis];
    row /= tensor.shape[axis];
  }
  return start;
}

}  // namespace

std::int64_t StoredTensor::rows() const {
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis + 1 < shape.size(); ++axis) {
    count *= shape[axis];
  }
  return count;
}

void CopyRows(const StoredTensor& tensor, std::int64_t first, std::int64_t count,
              std::span<std::byte> rows) {
  assert(first >= 0 && count >= 0 && first + count <= tensor.rows());
  assert(rows.size() == static_cast<std::size_t>(count * tensor.bytes_per_row()));
  if (rows.empty()) {
    return;
  }
  if (tensor.strides.empty()) {
    std::memcpy(rows.data(), tensor.data.data() + first * tensor.bytes_per_row(), rows.size());
    return;
  }
  const std::int64_t element = SizeOf(tensor.dtype);
  std::byte* dst = rows.data();
  for (std::int64_t row = first; row < first + count; ++row) {
    const std::byte* src = tensor.data.data() + StridedStart(tensor, row) * element;
    for (std::int64_t col = 0; col < tensor.cols(); ++col) {
      std::memcpy(dst, src, static_cast<std::size_t>(element));
      dst += element;
      src += tensor.strides.back() * element;
    }
  }
}

}  // namespace yangtuo
