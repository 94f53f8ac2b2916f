#pragma once

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/paged_attention.h"

namespace yangtuo {

// Keys and values of a stage's layers: [layers][blocks], each block as kernels::KvLayout says.
// Which sequence a block belongs to is the engine's business. Memory is taken from the system when
// a block is first written.
class KvStorage {
 public:
  struct Shape {
    kernels::KvLayout layout;
    std::int32_t layers = 0;
    std::int32_t blocks = 0;
  };
  static absl::StatusOr<KvStorage> Create(const Shape& shape);

  // How many blocks fit into `bytes`.
  static std::int64_t BlocksIn(std::int64_t bytes, const kernels::KvLayout& layout,
                               std::int32_t layers);

  // All blocks of layer `layer`, counted from the stage's first.
  [[nodiscard]] float* layer(std::int32_t layer) {
    return memory_.data() + std::int64_t{layer} * shape_.blocks * shape_.layout.block_floats();
  }
  [[nodiscard]] const Shape& shape() const { return shape_; }

 private:
  KvStorage(const Shape& shape, AlignedBuffer<float> memory)
      : shape_(shape), memory_(std::move(memory)) {}

  Shape shape_;
  AlignedBuffer<float> memory_;
};

}  // namespace yangtuo
