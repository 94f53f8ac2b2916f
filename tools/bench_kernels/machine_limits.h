#pragma once

namespace yangtuo {

// What this machine can do at most, measured with loops that do nothing else.
struct MachineLimits {
  double read_bytes_per_second = 0.0;  // of memory larger than every cache, by all threads
  // Multiply-adds by the widest instructions that the CPU has for it, two operations each.
  double float_ops_per_second = 0.0;    // f32
  double bf16_ops_per_second = 0.0;     // products of bf16 summed in f32
  double integer_ops_per_second = 0.0;  // exact products of 8-bit numbers summed in 32 bits
};

// Takes a second or two. The arithmetic limits are 0 where the CPU has no AVX2.
[[nodiscard]] MachineLimits MeasureLimits(int threads);

}  // namespace yangtuo
