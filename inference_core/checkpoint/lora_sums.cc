#include "inference_core/checkpoint/lora_sums.h"

#include <algorithm>
#include <cassert>

#include "inference_core/base/cpu.h"

// This file alone may be compiled with products fused into sums (see CMakeLists.txt): its products
// are exact, so that rounding them or not is the same.

namespace yangtuo {
namespace {

constexpr std::int64_t kPanel = RightFactor::kPanel;
constexpr std::int64_t kRows = 4;  // with two registers of a panel each: eight sums in flight
using Lanes [[gnu::vector_size(32)]] = double;
using UnalignedLanes [[gnu::vector_size(32), gnu::aligned(8)]] = double;

struct Task {
  const double* left = nullptr;  // [kRowsOf, rank]
  std::int64_t rank = 0;
  const double* panel = nullptr;  // [rank, kPanel]
  double* sums = nullptr;         // [kRowsOf, stride]
  std::int64_t stride = 0;
  std::int64_t columns = 0;  // of the panel that exist
};

[[gnu::always_inline]] inline const UnalignedLanes& LanesAt(const double* values) {
  return *reinterpret_cast<const UnalignedLanes*>(values);
}

template <std::size_t kRowsOf>
[[gnu::always_inline]] inline void SumPanel(const Task& t) {
  Lanes low[kRowsOf] = {};
  Lanes high[kRowsOf] = {};
  for (std::int64_t k = 0; k < t.rank; ++k) {
    const Lanes right_low = LanesAt(t.panel + k * kPanel);
    const Lanes right_high = LanesAt(t.panel + k * kPanel + 4);
    for (std::size_t i = 0; i < kRowsOf; ++i) {
      const double left = t.left[static_cast<std::int64_t>(i) * t.rank + k];
      low[i] += left * right_low;
      high[i] += left * right_high;
    }
  }
  for (std::size_t i = 0; i < kRowsOf; ++i) {
    for (std::int64_t j = 0; j < t.columns; ++j) {
      t.sums[static_cast<std::int64_t>(i) * t.stride + j] = j < 4 ? low[i][j] : high[i][j - 4];
    }
  }
}

struct Matrices {
  const double* left = nullptr;
  std::int64_t rows = 0;
  const RightFactor* right = nullptr;
  double* sums = nullptr;
};

[[gnu::always_inline]] inline void SumAll(const Matrices& m) {
  const std::int64_t rank = m.right->rank();
  const std::int64_t cols = m.right->cols();
  for (std::int64_t j = 0; j < cols; j += kPanel) {
    Task task{.left = m.left,
              .rank = rank,
              .panel = m.right->Panel(j / kPanel),
              .sums = m.sums + j,
              .stride = cols,
              .columns = std::min(kPanel, cols - j)};
    std::int64_t i = 0;
    for (; i + kRows <= m.rows; i += kRows) {
      SumPanel<kRows>(task);
      task.left += kRows * rank;
      task.sums += kRows * cols;
    }
    for (; i < m.rows; ++i) {
      SumPanel<1>(task);
      task.left += rank;
      task.sums += cols;
    }
  }
}

void SumAllBase(const Matrices& m) { SumAll(m); }
#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void SumAllAvx2(const Matrices& m) { SumAll(m); }
#else
void SumAllAvx2(const Matrices& m) { SumAll(m); }
#endif

}  // namespace

RightFactor::RightFactor(std::int64_t rank, std::int64_t cols)
    : rank_(rank),
      cols_(cols),
      values_(static_cast<std::size_t>((cols + kPanel - 1) / kPanel * kPanel * rank)) {}

void RightFactor::SetRow(std::int64_t k, std::span<const float> row) {
  assert(k >= 0 && k < rank_ && static_cast<std::int64_t>(row.size()) == cols_);
  for (std::int64_t j = 0; j < cols_; ++j) {
    values_[static_cast<std::size_t>((j / kPanel * rank_ + k) * kPanel + j % kPanel)] =
        row[static_cast<std::size_t>(j)];
  }
}

void SumProducts(std::span<const double> left, const RightFactor& right, std::span<double> sums) {
  const std::int64_t rows = static_cast<std::int64_t>(left.size()) / right.rank();
  assert(static_cast<std::int64_t>(sums.size()) == rows * right.cols());
  const Matrices matrices{.left = left.data(), .rows = rows, .right = &right, .sums = sums.data()};
  GetCpuFeatures().avx2 ? SumAllAvx2(matrices) : SumAllBase(matrices);
}

}  // namespace yangtuo
