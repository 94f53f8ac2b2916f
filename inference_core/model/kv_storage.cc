#include "inference_core/model/kv_storage.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace yangtuo {

absl::StatusOr<KvStorage> KvStorage::Create(const Shape& shape) {
  const std::int64_t floats =
      std::int64_t{shape.layers} * shape.blocks * shape.layout.block_floats();
  auto memory = AlignedBuffer<float>::Create(static_cast<std::size_t>(floats));
  if (!memory.ok()) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "no memory for %d KV blocks of %d layers (%d MiB): lower the number of blocks or their "
        "memory",
        shape.blocks, shape.layers, floats * 4 / (1 << 20)));
  }
  return KvStorage(shape, *std::move(memory));
}

std::int64_t KvStorage::BlocksIn(std::int64_t bytes, const kernels::KvLayout& layout,
                                 std::int32_t layers) {
  const std::int64_t block_bytes =
      layout.block_floats() * static_cast<std::int64_t>(sizeof(float)) * layers;
  return bytes / std::max<std::int64_t>(block_bytes, 1);
}

}  // namespace yangtuo
