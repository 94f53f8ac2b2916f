#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace yangtuo {

// Instruction sets that the CPU has and the operating system has switched on.
struct CpuFeatures {
  bool sse42 = false;
  bool f16c = false;
  bool avx2 = false;    // with FMA
  bool avx512 = false;  // F, BW, DQ and VL
  bool avx512_bf16 = false;
  bool avx512_vnni = false;
  bool avx_vnni = false;
  bool amx = false;  // tiles with int8 and bf16 products
};

// This machine's; found out once.
[[nodiscard]] const CpuFeatures& GetCpuFeatures();

// How much computing this process may do.
struct CpuLimits {
  std::vector<int> cpus;             // that the scheduler may use, ascending
  std::vector<int> cores;            // the first of `cpus` on each physical core
  std::optional<double> quota_cpus;  // the smallest cgroup quota above this process, in CPUs

  // One thread a physical core, fewer when a quota would throttle them; at least one.
  [[nodiscard]] std::int32_t compute_threads() const;
};

// CPUs of the calling thread's affinity mask (cpusets included). Empty only where the system does
// not say.
[[nodiscard]] std::vector<int> AffinityCpus();

// Reads /proc/self/cgroup, /sys/fs/cgroup (version 2 and version 1) and /sys/devices/system/cpu
// below `root`; what is missing limits nothing.
[[nodiscard]] CpuLimits ReadCpuLimits(std::span<const int> cpus, const std::filesystem::path& root);

// This process's.
[[nodiscard]] CpuLimits GetCpuLimits();

// One line for the log: "2 compute threads (2 cpus, 2 cores, no quota), avx2 avx512 avx512_vnni".
[[nodiscard]] std::string Describe(const CpuLimits& limits, const CpuFeatures& features);

}  // namespace yangtuo
