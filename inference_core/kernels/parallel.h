#pragma once

#include <cstdint>

namespace yangtuo::kernels {

// Calls body(i) for i in [0, count) on `threads` threads of the OpenMP team that oneDNN uses too:
// two teams would fight for the same cores. Iterations are handed out one by one, so they may
// differ in length; results must not depend on who runs which. `body` must not throw.
template <typename Body>
void ParallelFor(int threads, std::int64_t count, const Body& body) {
  if (threads <= 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) {
      body(i);
    }
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (std::int64_t i = 0; i < count; ++i) {
    body(i);
  }
}

}  // namespace yangtuo::kernels
