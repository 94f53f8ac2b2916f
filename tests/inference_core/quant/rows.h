#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "inference_core/quant/quant.h"

namespace yangtuo {

inline std::vector<float> GaussianRow(std::size_t size, unsigned seed, float deviation = 0.02F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, deviation);
  std::vector<float> row(size);
  std::generate(row.begin(), row.end(), [&] { return normal(random); });
  return row;
}

inline std::vector<std::byte> Quantized(DType type, std::span<const float> x,
                                        std::span<const float> importance = {}) {
  const std::int64_t bytes = RowBytes(type, static_cast<std::int64_t>(x.size()));
  std::vector<std::byte> row(static_cast<std::size_t>(bytes));
  const absl::Status status = QuantizeRow(type, x, importance, row);
  return status.ok() ? row : std::vector<std::byte>{};
}

inline std::vector<float> Dequantized(DType type, std::span<const std::byte> row,
                                      std::size_t size) {
  std::vector<float> y(size);
  DequantizeRow(type, row, y);
  return y;
}

// The sum of importance * squared error, over that of importance * square.
inline double RelativeError(std::span<const float> x, std::span<const float> y,
                            std::span<const float> importance = {}) {
  double error = 0.0;
  double square = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double weight = importance.empty() ? 1.0 : importance[i];
    const double off = static_cast<double>(x[i]) - static_cast<double>(y[i]);
    error += weight * off * off;
    square += weight * static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return error / square;
}

template <typename T>
std::vector<T> FromBytes(std::string_view bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace yangtuo
