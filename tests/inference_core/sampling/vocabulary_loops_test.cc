#include "inference_core/sampling/vocabulary_loops.h"

#include <cstddef>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

// Logits of all sizes, with what a vocabulary may hold: the impossible, NaN, ties, zeros.
std::vector<float> RandomLogits(std::mt19937& random, std::size_t size) {
  std::normal_distribution<float> normal(0.0F, 8.0F);
  std::uniform_int_distribution<int> kind(0, 40);
  std::vector<float> logits(size);
  for (float& logit : logits) {
    switch (kind(random)) {
      case 0:
        logit = -std::numeric_limits<float>::infinity();
        break;
      case 1:
        logit = 3.0F;
        break;
      case 2:
        logit = -0.0F;
        break;
      default:
        logit = normal(random);
    }
  }
  return logits;
}

template <typename T>
void ExpectSameBits(const T& a, const T& b) {
  EXPECT_EQ(std::memcmp(&a, &b, sizeof(T)), 0) << a << " and " << b;
}

TEST(VocabularyLoopsTest, EveryInstructionSetGivesTheSameBits) {
  const VocabularyLoops* avx2 = Avx2Loops();
  if (avx2 == nullptr) {
    GTEST_SKIP() << "this CPU has no AVX2";
  }
  const VocabularyLoops& base = BaseLoops();
  std::mt19937 random(1);
  for (std::size_t size = 1; size < 3000; size += 1 + size / 9) {
    SCOPED_TRACE(size);
    std::vector<float> logits = RandomLogits(random, size);
    const float largest = base.largest(logits);
    ExpectSameBits(avx2->largest(logits), largest);
    ExpectSameBits(avx2->sum_of_weights(logits, largest, 1.25F),
                   base.sum_of_weights(logits, largest, 1.25F));
    std::vector<float> weights = logits;
    base.to_weights(weights, largest, 0.7F);
    avx2->to_weights(logits, largest, 0.7F);
    EXPECT_EQ(std::memcmp(weights.data(), logits.data(), size * sizeof(float)), 0);
  }
}

TEST(VocabularyLoopsTest, NothingIsLargerThanANumberButANumber) {
  for (const VocabularyLoops* loops : {&BaseLoops(), &FastestLoops()}) {
    std::vector<float> logits(100, std::numeric_limits<float>::quiet_NaN());
    EXPECT_EQ(loops->largest(logits), -std::numeric_limits<float>::infinity());
    for (const std::size_t at : {std::size_t{0}, std::size_t{17}, std::size_t{99}}) {
      logits[at] = -5.0F + static_cast<float>(at);
      EXPECT_EQ(loops->largest(logits), logits[at]);
    }
  }
}

}  // namespace
}  // namespace yangtuo
