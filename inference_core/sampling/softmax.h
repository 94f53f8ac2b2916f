#pragma once

#include <span>

#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// Passes over a whole vocabulary, written so that the compiler vectorizes them. Bit-identical on
// every x86-64: base instruction set, no contraction.

// The largest value; NaN is skipped; -infinity when there is none.
[[nodiscard]] float LargestLogit(std::span<const float> logits);

// The lowest id among those with the largest logit; 0 when all are -infinity or NaN.
[[nodiscard]] TokenId ArgMax(std::span<const float> logits);

// Sum of exp((logit - largest) * scale), relative error below 1e-6. `largest` is finite and the
// largest of all, `scale` is positive.
[[nodiscard]] double SumOfWeights(std::span<const float> logits, float largest, float scale);

// The first id where the running sum of the weights exceeds `uniform` in [0, 1) of their total:
// inverse of the cumulative distribution in id order. Overwrites `logits` with weights.
[[nodiscard]] TokenId SampleByWeight(std::span<float> logits, float largest, float scale,
                                     double uniform);

}  // namespace yangtuo
