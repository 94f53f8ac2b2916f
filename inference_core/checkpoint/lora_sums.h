#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// The arithmetic of a LoRA merge, defined so that every machine computes the same bits:
//
//     W' = round(W + scale * (sum over k = 0, 1, ... rank - 1 of L[i, k] * R[k, j]))
//
// Factors are floats, so each product is exact in a double; sums are doubles, added in the order of
// k; the product with `scale` and the sum with W round to double each; `round` then rounds once, to
// nearest, ties to even, to the type that the merged model keeps.

// The right factor [rank, cols], kept in panels of columns, so that a panel stays in the
// first-level cache while all rows pass.
class RightFactor {
 public:
  RightFactor(std::int64_t rank, std::int64_t cols);

  void SetRow(std::int64_t k, std::span<const float> row);  // [cols]

  [[nodiscard]] std::int64_t rank() const { return rank_; }
  [[nodiscard]] std::int64_t cols() const { return cols_; }
  // Columns [panel * kPanel, (panel + 1) * kPanel) as [rank, kPanel], zeros beyond the last column.
  [[nodiscard]] const double* Panel(std::int64_t panel) const {
    return values_.data() + panel * rank_ * kPanel;
  }

  static constexpr std::int64_t kPanel = 8;

 private:
  std::int64_t rank_;
  std::int64_t cols_;
  std::vector<double> values_;
};

// sums[i, j] = the sum above. `left` is [rows, rank], `sums` [rows, cols].
void SumProducts(std::span<const double> left, const RightFactor& right, std::span<double> sums);

// values := round(values + scale * sums), as floats; `type` is plain and says what is rounded to.
// Returns the place of the first value that was finite and is so no more (65504 is the largest f16)
// or of the first that is not a number; values.size() when all is well.
std::size_t AddRounded(DType type, double scale, std::span<const double> sums,
                       std::span<float> values);

// values := round(values), as floats. Returns as AddRounded does.
std::size_t RoundValues(DType type, std::span<float> values);

}  // namespace yangtuo
