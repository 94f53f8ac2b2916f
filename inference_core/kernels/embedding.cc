#include "inference_core/kernels/embedding.h"

#include <algorithm>
#include <cassert>
#include <vector>

#include "inference_core/base/status_macros.h"
#include "inference_core/quant/quant.h"

namespace yangtuo::kernels {

absl::StatusOr<EmbeddingTable> EmbeddingTable::Copy(const StoredMatrix& table, Keep keep) {
  YANGTUO_RETURN_IF_ERROR(ShapeOf({&table, 1}).status());
  const bool round = keep == Keep::kInt8 && IsPlain(table.dtype);
  const DType dtype = round ? DType::kInt8 : table.dtype;
  const auto row_bytes = static_cast<std::size_t>(RowBytes(dtype, table.in));
  YANGTUO_ASSIGN_OR_RETURN(
      AlignedBuffer<std::byte> rows,
      AlignedBuffer<std::byte>::Create(static_cast<std::size_t>(table.out) * row_bytes));
  RowReader reader({&table, 1});
  std::vector<float> wide(static_cast<std::size_t>(table.in));
  for (std::int64_t r = 0; r < table.out; ++r) {
    YANGTUO_ASSIGN_OR_RETURN(const RowReader::Row row, reader.Read(r));
    const std::span<std::byte> kept =
        rows.span().subspan(static_cast<std::size_t>(r) * row_bytes, row_bytes);
    if (round) {
      DequantizeRow(row.dtype, row.bytes, wide);
      YANGTUO_RETURN_IF_ERROR(QuantizeRow(DType::kInt8, wide, {}, kept));
    } else {
      std::copy(row.bytes.begin(), row.bytes.end(), kept.begin());
    }
  }
  return EmbeddingTable(std::move(rows), dtype, table.out);
}

void EmbeddingTable::LookUp(std::span<const std::int32_t> ids, Matrix y) const {
  const auto row_bytes = static_cast<std::size_t>(RowBytes(dtype_, y.dim(1)));
  for (std::size_t r = 0; r < ids.size(); ++r) {
    assert(ids[r] >= 0 && ids[r] < vocab_);
    DequantizeRow(dtype_,
                  rows_.span().subspan(static_cast<std::size_t>(ids[r]) * row_bytes, row_bytes),
                  y.Row(static_cast<std::int64_t>(r)));
  }
}

}  // namespace yangtuo::kernels
