#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace yangtuo::kernels::reference {

// Every kernel as plain loops in double over contiguous rows: the oracle of the kernel tests.

// [tokens, out] = x [tokens, in] * weight [out, in]^T.
struct LinearShape {
  std::int64_t tokens = 0;
  std::int64_t in = 0;
  std::int64_t out = 0;
};
[[nodiscard]] std::vector<double> Linear(std::span<const float> x, std::span<const float> weight,
                                         const LinearShape& shape);

// One row.
[[nodiscard]] std::vector<double> RmsNorm(std::span<const float> x, std::span<const float> weight,
                                          double eps);

// One row [gate | up].
[[nodiscard]] std::vector<double> SwiGlu(std::span<const float> x);

// One head at one position; `position` already divided by the linear factor.
[[nodiscard]] std::vector<double> Rope(std::span<const float> head, double position, double theta);

// Attention of one query [head_dim] over keys and values [positions, head_dim].
[[nodiscard]] std::vector<double> Attention(std::span<const float> query,
                                            std::span<const float> keys,
                                            std::span<const float> values);

}  // namespace yangtuo::kernels::reference
