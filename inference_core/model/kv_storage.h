#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/kv_layout.h"

namespace yangtuo {

// Keys and values of a stage's layers, each as kernels::KvLayout says.
// Which sequence a block belongs to is the engine's business. Memory is taken from the system when
// it is first written, in huge pages where there are any. The first block then takes a page of each
// head's keys and values in each layer: much of the memory at once, and all of it where those are
// no longer than a page. Small pages would be taken as blocks are, but are read more slowly.
class KvStorage {
 public:
  struct Shape {
    kernels::KvLayout layout;  // its blocks are set from `blocks`
    std::int32_t layers = 0;
    std::int32_t blocks = 0;
  };
  static absl::StatusOr<KvStorage> Create(const Shape& requested);

  // How many blocks fit into `bytes`.
  static std::int64_t BlocksIn(std::int64_t bytes, const kernels::KvLayout& layout,
                               std::int32_t layers);

  // All blocks of layer `layer`, counted from the stage's first.
  [[nodiscard]] std::byte* layer(std::int32_t layer) {
    return memory_.data() + layer * shape_.layout.layer_bytes();
  }
  [[nodiscard]] const Shape& shape() const { return shape_; }

 private:
  KvStorage(const Shape& shape, AlignedBuffer<std::byte> memory)
      : shape_(shape), memory_(std::move(memory)) {}

  Shape shape_;
  AlignedBuffer<std::byte> memory_;
};

}  // namespace yangtuo
