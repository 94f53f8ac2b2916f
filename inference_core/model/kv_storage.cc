#include "inference_core/model/kv_storage.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace yangtuo {

absl::StatusOr<KvStorage> KvStorage::Create(const Shape& requested) {
  Shape shape = requested;
  shape.layout.blocks = shape.blocks;
  const std::int64_t bytes = shape.layers * shape.layout.layer_bytes();
  auto memory = AlignedBuffer<std::byte>::Create(static_cast<std::size_t>(bytes));
  if (!memory.ok()) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "no memory for %d KV blocks of %d layers (%d MiB): lower the number of blocks or their "
        "memory",
        shape.blocks, shape.layers, bytes / (1 << 20)));
  }
  return KvStorage(shape, *std::move(memory));
}

std::int64_t KvStorage::BlocksIn(std::int64_t bytes, const kernels::KvLayout& layout,
                                 std::int32_t layers) {
  const std::int64_t block_bytes = layout.block_bytes() * layers;
  return bytes / std::max<std::int64_t>(block_bytes, 1);
}

}  // namespace yangtuo
