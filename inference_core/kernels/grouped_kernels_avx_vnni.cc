#include <cstring>
#include <immintrin.h>
#include <utility>

#include "inference_core/kernels/grouped_kernels.h"

// Every function here carries the instruction set itself: nothing that other files share may be
// compiled for it.
#define YANGTUO_GROUPED [[gnu::target("avx2,avxvnni")]]

namespace yangtuo::kernels {
namespace {

#include "inference_core/kernels/grouped_body.h"
#include "inference_core/kernels/grouped_vectors_256.h"

struct AvxVnniVectors : Vectors256 {
  static constexpr std::int32_t kInt8Zero = 128;
  YANGTUO_GROUPED_INLINE static Int AddInt8(Int sum, Int w, Int four) {
    return _mm256_dpbusd_avx_epi32(sum, _mm256_xor_si256(w, _mm256_set1_epi8(-128)), four);
  }
  YANGTUO_GROUPED_INLINE static Int AddCodes(Int sum, Int codes, Int four) {
    return _mm256_dpbusd_avx_epi32(sum, codes, four);
  }
  YANGTUO_GROUPED_INLINE static Int FinishCodes(Int sum) { return sum; }
};

}  // namespace

const GroupedKernels& AvxVnniGroupedKernels() { return GroupedKernelsIn<AvxVnniVectors>(); }

}  // namespace yangtuo::kernels
