#pragma once

#include <cstdint>
#include <span>

#include "inference_core/base/aligned_buffer.h"
#include "inference_core/kernels/rows.h"

namespace yangtuo::kernels {

// What a block does between its products. Every row's result depends on that row alone, to the bit,
// and on no instruction set.

// y = x / sqrt(mean(x^2) + eps) * weight, per row. `weight` has x.cols elements.
void RmsNorm(Rows<const float> x, std::span<const float> weight, float eps, Rows<float> y,
             int threads);

// y += x
void Add(Rows<const float> x, Rows<float> y, int threads);

// y = silu(gate) * up, where a row of `x` is [gate | up], twice the columns of y.
void SwiGlu(Rows<const float> x, Rows<float> y, int threads);

// Angles of rotary position embedding, Hugging Face's pairing: element j of a head turns with
// element j + head_dim / 2 by position / linear_factor * theta^(-2j / head_dim). Computed in double
// once for all positions.
class RopeTable {
 public:
  struct Shape {
    std::int64_t positions = 0;
    std::int64_t head_dim = 0;  // even
    double theta = 10000.0;
    double linear_factor = 1.0;
  };
  explicit RopeTable(const Shape& shape);

  // Turns every head of row r of `x` [tokens, heads * head_dim] by the angles of positions[r].
  void Apply(std::span<const std::int32_t> positions, Rows<float> x, int threads) const;

  [[nodiscard]] const Shape& shape() const { return shape_; }

 private:
  Shape shape_;
  AlignedBuffer<float> cos_;  // [positions, head_dim / 2]
  AlignedBuffer<float> sin_;
};

}  // namespace yangtuo::kernels
