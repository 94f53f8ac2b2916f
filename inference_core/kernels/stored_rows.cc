#include "inference_core/kernels/stored_rows.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "absl/strings/str_format.h"
#include "inference_core/base/float16.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/integer_rows.h"

namespace yangtuo::kernels {
namespace {

// Rows asked for at once where a matrix is not in memory: some sources compute them.
constexpr std::int64_t kReadAhead = 16;

void WidenHalves(DType dtype, std::span<const std::byte> row, std::span<float> y) {
  // Through an aligned copy: the source may begin at an odd address.
  std::array<std::uint16_t, 512> bits;
  for (std::size_t first = 0; first < y.size(); first += bits.size()) {
    const std::size_t count = std::min(bits.size(), y.size() - first);
    std::memcpy(bits.data(), row.data() + first * sizeof(std::uint16_t),
                count * sizeof(std::uint16_t));
    const std::span<const std::uint16_t> x(bits.data(), count);
    if (dtype == DType::kF16) {
      F16ToFloat(x, y.subspan(first, count));
    } else {
      Bf16ToFloat(x, y.subspan(first, count));
    }
  }
}

}  // namespace

void WidenRow(DType dtype, std::span<const std::byte> row, std::span<float> y) {
  assert(static_cast<std::int64_t>(row.size()) ==
         RowBytes(dtype, static_cast<std::int64_t>(y.size())));
  switch (dtype) {
    case DType::kF32:
      std::memcpy(y.data(), row.data(), y.size_bytes());
      return;
    case DType::kInt8:
      DequantizeInt8Row(row, y);
      return;
    case DType::kInt4:
      DequantizeInt4Row(row, y);
      return;
    default:
      WidenHalves(dtype, row, y);
  }
}

absl::StatusOr<RowReader::Row> RowReader::ReadFrom(const StoredMatrix& part, std::int64_t row) {
  const std::int64_t bytes = RowBytes(part.dtype, part.in);
  const auto size = static_cast<std::size_t>(bytes);
  if (part.data != nullptr) {
    return Row{.dtype = part.dtype, .bytes = {part.data + row * bytes, size}};
  }
  if (buffered_ != &part || row < first_ || row >= first_ + count_) {
    first_ = row;
    count_ = std::min(kReadAhead, part.out - row);
    buffer_.resize(static_cast<std::size_t>(count_ * bytes));
    buffered_ = nullptr;
    YANGTUO_RETURN_IF_ERROR(part.read(first_, count_, buffer_));
    buffered_ = &part;
  }
  return Row{.dtype = part.dtype, .bytes = {buffer_.data() + (row - first_) * bytes, size}};
}

absl::StatusOr<RowReader::Row> RowReader::Read(std::int64_t row) {
  for (const StoredMatrix& part : parts_) {
    if (row < part.out) {
      return ReadFrom(part, row);
    }
    row -= part.out;
  }
  return absl::InternalError(absl::StrFormat("row %d after the last of a matrix", row));
}

absl::Status RowReader::Widen(std::int64_t row, std::span<float> y) {
  YANGTUO_ASSIGN_OR_RETURN(const Row stored, Read(row));
  WidenRow(stored.dtype, stored.bytes, y);
  return absl::OkStatus();
}

absl::StatusOr<StackedShape> ShapeOf(std::span<const StoredMatrix> parts) {
  StackedShape shape;
  shape.in = parts.empty() ? 0 : parts.front().in;
  for (const StoredMatrix& part : parts) {
    if (part.in != shape.in || part.in < 1 || part.out < 1) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "parts of a linear layer must have one input size, found [%d, %d] below [*, %d]",
          part.out, part.in, shape.in));
    }
    if (!IsPlain(part.dtype) && part.dtype != DType::kInt8 && part.dtype != DType::kInt4) {
      return absl::UnimplementedError(
          absl::StrFormat("weights of type %s cannot be computed with", NameOf(part.dtype)));
    }
    shape.out += part.out;
  }
  if (shape.out == 0) {
    return absl::InvalidArgumentError("a linear layer needs a weight, given none");
  }
  return shape;
}

}  // namespace yangtuo::kernels
