#include "inference_core/kernels/elementwise.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>

#include "inference_core/kernels/lanes.h"
#include "inference_core/kernels/parallel.h"
#include "inference_core/kernels/simd_path.h"

namespace yangtuo::kernels {
namespace {

// Rows handed to a thread at once.
constexpr std::int64_t kRowsPerTask = 8;
// Elements below which waking a team costs more than it saves.
constexpr std::int64_t kTeamElements = std::int64_t{1} << 17;

template <typename Body>
void ForEachRow(int team_size, const Rows<const float>& x, const Body& body) {
  const std::int64_t rows = x.rows;
  const int threads = rows * x.cols < kTeamElements ? 1 : team_size;
  const std::int64_t tasks = (rows + kRowsPerTask - 1) / kRowsPerTask;
  ParallelFor(threads, tasks, [&](std::int64_t task) {
    const std::int64_t last = std::min(rows, (task + 1) * kRowsPerTask);
    for (std::int64_t r = task * kRowsPerTask; r < last; ++r) {
      body(r);
    }
  });
}

struct RowTask {
  const float* x;
  const float* weight;
  float* y;
  std::int64_t cols;
  float eps;
};

[[gnu::always_inline]] inline void RmsNormRow(const RowTask& t) {
  Lanes squares = {};
  std::int64_t i = 0;
  for (; i + kLanes <= t.cols; i += kLanes) {
    Lanes v;
    LoadLanes(t.x + i, v);
    squares += v * v;
  }
  for (std::int64_t lane = 0; i + lane < t.cols; ++lane) {
    squares[lane] += t.x[i + lane] * t.x[i + lane];
  }
  const float scale = 1.0F / std::sqrt(SumOfLanes(squares) / static_cast<float>(t.cols) + t.eps);
  for (std::int64_t c = 0; c < t.cols; ++c) {
    t.y[c] = t.x[c] * scale * t.weight[c];
  }
}

[[gnu::always_inline]] inline void SwiGluLanes(Lanes& gate, const Lanes& up) {
  Lanes e = -gate;
  ExpLanes(e);
  gate = gate / (e + 1.0F) * up;
}

[[gnu::always_inline]] inline void SwiGluRow(const RowTask& t) {
  const float* const up_row = t.x + t.cols;
  std::int64_t i = 0;
  for (; i + kLanes <= t.cols; i += kLanes) {
    Lanes gate;
    Lanes up;
    LoadLanes(t.x + i, gate);
    LoadLanes(up_row + i, up);
    SwiGluLanes(gate, up);
    StoreLanes(gate, t.y + i);
  }
  if (i < t.cols) {
    Lanes gate = {};
    Lanes up = {};
    for (std::int64_t lane = 0; i + lane < t.cols; ++lane) {
      gate[lane] = t.x[i + lane];
      up[lane] = up_row[i + lane];
    }
    SwiGluLanes(gate, up);
    for (std::int64_t lane = 0; i + lane < t.cols; ++lane) {
      t.y[i + lane] = gate[lane];
    }
  }
}

using RowKernel = void (*)(const RowTask&);

void RmsNormBase(const RowTask& t) { RmsNormRow(t); }
[[gnu::target("avx2")]] void RmsNormAvx2(const RowTask& t) { RmsNormRow(t); }
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] void RmsNormAvx512(const RowTask& t) {
  RmsNormRow(t);
}
void SwiGluBase(const RowTask& t) { SwiGluRow(t); }
[[gnu::target("avx2")]] void SwiGluAvx2(const RowTask& t) { SwiGluRow(t); }
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] void SwiGluAvx512(const RowTask& t) {
  SwiGluRow(t);
}

}  // namespace

void RmsNorm(Rows<const float> x, std::span<const float> weight, float eps, Rows<float> y,
             int threads) {
  assert(static_cast<std::int64_t>(weight.size()) == x.cols && x.cols == y.cols);
  const RowKernel kernel = PickSimdPath<RowKernel>(RmsNormBase, RmsNormAvx2, RmsNormAvx512);
  ForEachRow(threads, x, [&](std::int64_t r) {
    kernel({.x = x.Row(r), .weight = weight.data(), .y = y.Row(r), .cols = x.cols, .eps = eps});
  });
}

void Add(Rows<const float> x, Rows<float> y, int threads) {
  assert(x.rows == y.rows && x.cols == y.cols);
  ForEachRow(threads, x, [&](std::int64_t r) {
    const float* const src = x.Row(r);
    float* const dst = y.Row(r);
    for (std::int64_t c = 0; c < x.cols; ++c) {
      dst[c] += src[c];
    }
  });
}

void SwiGlu(Rows<const float> x, Rows<float> y, int threads) {
  assert(x.cols == 2 * y.cols);
  const RowKernel kernel = PickSimdPath<RowKernel>(SwiGluBase, SwiGluAvx2, SwiGluAvx512);
  ForEachRow(threads, x, [&](std::int64_t r) {
    kernel({.x = x.Row(r), .weight = nullptr, .y = y.Row(r), .cols = y.cols, .eps = 0.0F});
  });
}

RopeTable::RopeTable(const Shape& shape)
    : shape_(shape),
      cos_(static_cast<std::size_t>(shape.positions * shape.head_dim / 2)),
      sin_(cos_.size()) {
  const std::int64_t half = shape.head_dim / 2;
  for (std::int64_t j = 0; j < half; ++j) {
    const double frequency =
        std::pow(shape.theta, -2.0 * static_cast<double>(j) / static_cast<double>(shape.head_dim));
    for (std::int64_t p = 0; p < shape.positions; ++p) {
      const double angle = static_cast<double>(p) / shape.linear_factor * frequency;
      const auto at = static_cast<std::size_t>(p * half + j);
      cos_[at] = static_cast<float>(std::cos(angle));
      sin_[at] = static_cast<float>(std::sin(angle));
    }
  }
}

void RopeTable::Apply(std::span<const std::int32_t> positions, Rows<float> x, int threads) const {
  assert(static_cast<std::int64_t>(positions.size()) == x.rows);
  const std::int64_t half = shape_.head_dim / 2;
  ForEachRow(threads, x, [&](std::int64_t r) {
    const std::int64_t position = positions[static_cast<std::size_t>(r)];
    assert(position >= 0 && position < shape_.positions);
    const float* const c = cos_.data() + position * half;
    const float* const s = sin_.data() + position * half;
    for (float* head = x.Row(r); head < x.Row(r) + x.cols; head += shape_.head_dim) {
      for (std::int64_t j = 0; j < half; ++j) {
        const float low = head[j];
        const float high = head[j + half];
        head[j] = low * c[j] - high * s[j];
        head[j + half] = high * c[j] + low * s[j];
      }
    }
  });
}

}  // namespace yangtuo::kernels
