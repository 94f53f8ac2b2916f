#pragma once

namespace yangtuo {

// What this machine can do at most, measured with loops that do nothing else.
struct MachineLimits {
  double read_bytes_per_second = 0.0;  // of memory larger than every cache, by all threads
  double float_ops_per_second = 0.0;   // fused multiply-adds of f32, two operations each
  double integer_ops_per_second =
      0.0;  // exact products of 8-bit numbers summed in 32 bits, likewise
};

// Takes a second. The arithmetic limits are 0 where the CPU has no AVX2.
[[nodiscard]] MachineLimits MeasureLimits(int threads);

}  // namespace yangtuo
