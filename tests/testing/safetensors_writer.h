#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// A tensor to be written: all but its values.
struct PlainTensor {
  std::string name;  // plain letters, digits, '.' and '_'
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;

  [[nodiscard]] std::int64_t elements() const;
};

// Rounds values to `dtype`; the bytes as they lie in a file.
[[nodiscard]] std::string EncodeValues(DType dtype, std::span<const float> values);

// Writes one file, one tensor in memory at a time, in the given order. `values` returns the
// elements of tensor i of `tensors`. Throws std::runtime_error.
void WriteSafetensors(const std::filesystem::path& path, std::span<const PlainTensor> tensors,
                      const std::function<std::vector<float>(std::size_t i)>& values);

}  // namespace yangtuo
