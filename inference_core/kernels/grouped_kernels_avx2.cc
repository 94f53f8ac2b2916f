#include <cstring>
#include <immintrin.h>
#include <utility>

#include "inference_core/kernels/grouped_kernels.h"

// Every function here carries the instruction set itself: nothing that other files share may be
// compiled for it.
#define YANGTUO_GROUPED [[gnu::target("avx2")]]

namespace yangtuo::kernels {
namespace {

#include "inference_core/kernels/grouped_body.h"
#include "inference_core/kernels/grouped_vectors_256.h"

struct Avx2Vectors : Vectors256 {
  static constexpr std::int32_t kInt8Zero = 0;
  // vpmaddubsw multiplies unsigned by signed and saturates pairs at 16 bits: |w| times x with the
  // sign of w is the same product, and 2 * 128 * 127 = 32512 fits.
  YANGTUO_GROUPED_INLINE static Int AddInt8(Int sum, Int w, Int four) {
    const Int pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(four, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  // Pairs of 16 bits: eight of codes up to 15 times inputs up to 127 are 30480 at most.
  YANGTUO_GROUPED_INLINE static Int AddCodes(Int sum, Int codes, Int four) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, four));
  }
  YANGTUO_GROUPED_INLINE static Int FinishCodes(Int sum) {
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
  }
};

}  // namespace

const GroupedKernels& Avx2GroupedKernels() { return GroupedKernelsIn<Avx2Vectors>(); }

}  // namespace yangtuo::kernels
