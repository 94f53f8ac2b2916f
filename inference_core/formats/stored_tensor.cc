#include "inference_core/formats/stored_tensor.h"

#include <cassert>
#include <cstring>

namespace yangtuo {
namespace {

// Copies the elements of axes [axis, ...) that begin at `src` to `dst`; returns the end of them.
// The depth is the number of axes.
std::byte* Gather(const StoredTensor& tensor, std::size_t axis, const std::byte* src,
                  std::byte* dst) {
  const std::int64_t element = SizeOf(tensor.dtype);
  if (axis == tensor.shape.size()) {
    std::memcpy(dst, src, static_cast<std::size_t>(element));
    return dst + element;
  }
  for (std::int64_t i = 0; i < tensor.shape[axis]; ++i) {
    dst = Gather(tensor, axis + 1, src + i * tensor.strides[axis] * element, dst);
  }
  return dst;
}

}  // namespace

std::int64_t StoredTensor::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    count *= size;
  }
  return count;
}

std::int64_t StoredTensor::bytes_per_row() const {
  // Of more than two axes, all but the first make a row.
  const std::int64_t row_elements = rows() == 0 ? 0 : elements() / rows();
  return IsPlain(dtype) ? row_elements * SizeOf(dtype)
                        : RowBytes(dtype, shape.empty() ? 1 : shape.back()) *
                              (row_elements / (shape.empty() ? 1 : shape.back()));
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
  if (tensor.shape.size() < 2) {
    Gather(tensor, 0, tensor.data.data(), rows.data());
    return;
  }
  std::byte* dst = rows.data();
  const std::int64_t row_stride = tensor.strides[0] * SizeOf(tensor.dtype);
  for (std::int64_t row = first; row < first + count; ++row) {
    dst = Gather(tensor, 1, tensor.data.data() + row * row_stride, dst);
  }
}

}  // namespace yangtuo
