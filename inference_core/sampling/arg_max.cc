#include <algorithm>
#include <cstddef>
#include <limits>

#include "inference_core/sampling/softmax.h"
#include "inference_core/sampling/vocabulary_loops.h"

namespace yangtuo {
namespace {

// Logits whose largest is found at once; only the best of these blocks is searched for its place.
constexpr std::size_t kBlock = 512;

}  // namespace

float LargestLogit(std::span<const float> logits) { return FastestLoops().largest(logits); }

TokenId ArgMax(std::span<const float> logits) {
  const VocabularyLoops& loops = FastestLoops();
  float best = -std::numeric_limits<float>::infinity();
  std::span<const float> where;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::span<const float> block =
        logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    if (const float largest = loops.largest(block); largest > best) {
      best = largest;
      where = block;
    }
  }
  if (where.empty()) {
    return 0;
  }
  return static_cast<TokenId>(&*std::find(where.begin(), where.end(), best) - logits.data());
}

}  // namespace yangtuo
