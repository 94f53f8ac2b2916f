#include "inference_core/kernels/stored_rows.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/quant/quant.h"

namespace yangtuo::kernels {
namespace {

// Rows asked for at once where a matrix is not in memory: some sources compute them.
constexpr std::int64_t kReadAhead = 16;

}  // namespace

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
  DequantizeRow(stored.dtype, stored.bytes, y);
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
    if (!RowFits(part.dtype, part.in)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "rows of %d columns do not divide into blocks of %s", part.in, NameOf(part.dtype)));
    }
    shape.out += part.out;
  }
  if (shape.out == 0) {
    return absl::InvalidArgumentError("a linear layer needs a weight, given none");
  }
  return shape;
}

}  // namespace yangtuo::kernels
