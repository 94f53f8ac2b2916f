#include "inference_core/kernels/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace yangtuo::kernels::reference {

std::vector<double> Linear(std::span<const float> x, std::span<const float> weight,
                           const LinearShape& shape) {
  std::vector<double> y;
  for (std::int64_t t = 0; t < shape.tokens; ++t) {
    for (std::int64_t o = 0; o < shape.out; ++o) {
      double sum = 0.0;
      for (std::int64_t i = 0; i < shape.in; ++i) {
        sum += static_cast<double>(x[static_cast<std::size_t>(t * shape.in + i)]) *
               static_cast<double>(weight[static_cast<std::size_t>(o * shape.in + i)]);
      }
      y.push_back(sum);
    }
  }
  return y;
}

std::vector<double> RmsNorm(std::span<const float> x, std::span<const float> weight, double eps) {
  double squares = 0.0;
  for (const float value : x) {
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  const double scale = 1.0 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    y.push_back(static_cast<double>(x[i]) * scale * static_cast<double>(weight[i]));
  }
  return y;
}

std::vector<double> SwiGlu(std::span<const float> x) {
  const std::size_t ffn = x.size() / 2;
  std::vector<double> y;
  for (std::size_t i = 0; i < ffn; ++i) {
    const double gate = x[i];
    y.push_back(gate / (1.0 + std::exp(-gate)) * static_cast<double>(x[i + ffn]));
  }
  return y;
}

std::vector<double> Rope(std::span<const float> head, double position, double theta) {
  const std::size_t half = head.size() / 2;
  std::vector<double> y(head.size());
  for (std::size_t j = 0; j < half; ++j) {
    const double exponent = -2.0 * static_cast<double>(j) / static_cast<double>(head.size());
    const double angle = position * std::pow(theta, exponent);
    const double low = head[j];
    const double high = head[j + half];
    y[j] = low * std::cos(angle) - high * std::sin(angle);
    y[j + half] = high * std::cos(angle) + low * std::sin(angle);
  }
  return y;
}

std::vector<double> Attention(std::span<const float> query, std::span<const float> keys,
                              std::span<const float> values) {
  const std::size_t dim = query.size();
  const std::size_t positions = keys.size() / dim;
  std::vector<double> weights;
  for (std::size_t p = 0; p < positions; ++p) {
    double score = 0.0;
    for (std::size_t d = 0; d < dim; ++d) {
      score += static_cast<double>(query[d]) * static_cast<double>(keys[p * dim + d]);
    }
    weights.push_back(score / std::sqrt(static_cast<double>(dim)));
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double total = 0.0;
  for (double& weight : weights) {
    weight = std::exp(weight - largest);
    total += weight;
  }
  std::vector<double> y(dim, 0.0);
  for (std::size_t p = 0; p < positions; ++p) {
    for (std::size_t d = 0; d < dim; ++d) {
      y[d] += weights[p] / total * static_cast<double>(values[p * dim + d]);
    }
  }
  return y;
}

}  // namespace yangtuo::kernels::reference
