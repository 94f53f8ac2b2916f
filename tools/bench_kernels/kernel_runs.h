#pragma once

#include <string>
#include <vector>

#include "tools/bench_kernels/machine_limits.h"

namespace yangtuo {

// What bounds a kernel.
enum class Bound { kReading, kFloat, kBf16, kInteger };

struct KernelSpeed {
  std::string name;
  Bound bound = Bound::kReading;
  double per_second = 0.0;  // bytes or operations, as `bound` says
  double ratio = 0.0;       // to the limit
};

// Every hot kernel at the sizes of a 7B model's layer, best of a few runs.
[[nodiscard]] std::vector<KernelSpeed> RunKernels(int threads, const MachineLimits& limits);

}  // namespace yangtuo
