#pragma once

#include <cstdint>

#include "inference_core/tensor/tensor_view.h"

namespace yangtuo {

// The products of a LLaMA model. Those of kQkv and kGateUp are several matrices with one input.
enum class Product : std::uint8_t { kQkv, kAttentionOut, kGateUp, kDown, kLogits };

// Sees what a model multiplies its matrices with, for example to find out which columns count most
// when they are quantized. A model without one pays a test of a pointer a product.
class ProductObserver {
 public:
  virtual ~ProductObserver() = default;

  // Before each product, on the thread that runs the step: `x` is [rows, in]. `layer` counts from
  // the first of the stage; of kLogits it means nothing.
  virtual void Observe(Product product, std::int32_t layer, ConstMatrix x) = 0;
};

}  // namespace yangtuo
