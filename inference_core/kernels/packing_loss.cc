#include "inference_core/kernels/packing_loss.h"

#include <vector>

#include "inference_core/quant/quant.h"

namespace yangtuo::kernels {

PackingLoss LossOf(DType type, std::span<const float> values, std::span<const std::byte> packed) {
  std::vector<float> wide(values.size());
  DequantizeRow(type, packed, wide);
  PackingLoss loss;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double error = double{wide[i]} - double{values[i]};
    loss.square += double{values[i]} * double{values[i]};
    loss.squared_error += error * error;
  }
  return loss;
}

}  // namespace yangtuo::kernels
