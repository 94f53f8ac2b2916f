#pragma once

#include <span>

namespace yangtuo {

// The loops over a whole vocabulary that sampling spends its time in, once for every instruction
// set. All give the same bits: sums are kept in 16 lanes by the code itself, and no product is
// contracted with a sum.
struct VocabularyLoops {
  // The largest value; NaN is skipped; -infinity when there is none.
  float (*largest)(std::span<const float> logits);
  // Sum of exp((logit - largest) * scale).
  double (*sum_of_weights)(std::span<const float> logits, float largest, float scale);
  // Replaces every logit with its weight.
  void (*to_weights)(std::span<float> logits, float largest, float scale);
};

// For any x86-64.
[[nodiscard]] const VocabularyLoops& BaseLoops();
// Null where the CPU has no AVX2.
[[nodiscard]] const VocabularyLoops* Avx2Loops();
// The fastest of them.
[[nodiscard]] const VocabularyLoops& FastestLoops();

}  // namespace yangtuo
