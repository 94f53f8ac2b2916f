#include "inference_core/kernels/embedding.h"

#include <cassert>
#include <cstring>
#include <utility>

#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/stored_rows.h"

namespace yangtuo::kernels {

absl::StatusOr<EmbeddingTable> EmbeddingTable::Copy(const StoredMatrix& table) {
  const auto bytes = static_cast<std::size_t>(table.out * table.in * SizeOf(table.dtype));
  YANGTUO_ASSIGN_OR_RETURN(AlignedBuffer<std::byte> rows, AlignedBuffer<std::byte>::Create(bytes));
  std::memcpy(rows.data(), table.data, bytes);
  return EmbeddingTable(std::move(rows), table.dtype, table.out);
}

void EmbeddingTable::LookUp(std::span<const std::int32_t> ids, Matrix y) const {
  for (std::size_t r = 0; r < ids.size(); ++r) {
    assert(ids[r] >= 0 && ids[r] < vocab_);
    WidenRow(rows_.data(), dtype_, ids[r], y.Row(static_cast<std::int64_t>(r)));
  }
}

}  // namespace yangtuo::kernels
