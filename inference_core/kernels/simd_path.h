#pragma once

#include "inference_core/base/cpu.h"

namespace yangtuo::kernels {

// The widest of three copies of a kernel that this CPU runs. The copies are functions with a
// gnu::target attribute around one always_inline body, so all compute the same bits.
template <typename Kernel>
[[nodiscard]] Kernel PickSimdPath(Kernel base, Kernel avx2, Kernel avx512) {
  const CpuFeatures& cpu = GetCpuFeatures();
  return cpu.avx512 ? avx512 : cpu.avx2 ? avx2 : base;
}

}  // namespace yangtuo::kernels
