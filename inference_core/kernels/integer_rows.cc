#include "inference_core/kernels/integer_rows.h"

#include <cassert>
#include <cstring>

#include "inference_core/tensor/dtype.h"

namespace yangtuo::kernels {
namespace {

float ReadScale(std::span<const std::byte> row) {
  float scale = 0.0F;
  std::memcpy(&scale, row.data() + row.size() - sizeof(scale), sizeof(scale));
  return scale;
}

}  // namespace

Int8Row SplitInt8Row(std::span<const std::byte> row) {
  return {.q = row.first(row.size() - sizeof(float)), .scale = ReadScale(row)};
}

Int4Row SplitInt4Row(std::span<const std::byte> row, std::int64_t cols) {
  const auto groups = static_cast<std::size_t>((cols + kInt4Group - 1) / kInt4Group);
  assert(static_cast<std::int64_t>(row.size()) == RowBytes(DType::kInt4, cols));
  return {.codes = row.first(groups * (kInt4Group / 2)),
          .r = row.subspan(groups * (kInt4Group / 2), groups),
          .scale = ReadScale(row)};
}

}  // namespace yangtuo::kernels
