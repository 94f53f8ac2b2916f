#include "inference_core/sampling/logits_processors.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "inference_core/sampling/vocabulary_loops.h"

namespace yangtuo {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Logits that are passed over together when none of them can be among the best.
constexpr std::size_t kBlock = 64;

bool InVocabulary(std::span<const float> logits, TokenId id) {
  return id >= 0 && static_cast<std::size_t>(id) < logits.size();
}

float& At(std::span<float> logits, TokenId id) { return logits[static_cast<std::size_t>(id)]; }

bool Better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

}  // namespace

void AddLogitBias(std::span<float> logits, std::span<const std::pair<TokenId, float>> bias) {
  for (const auto& entry : bias) {
    if (InVocabulary(logits, entry.first)) {
      At(logits, entry.first) += entry.second;
    }
  }
}

void PenalizeRepetition(std::span<float> logits, std::span<const SeenToken> seen, float penalty) {
  for (const SeenToken& token : seen) {
    if (InVocabulary(logits, token.id)) {
      float& logit = At(logits, token.id);
      logit = logit < 0.0F ? logit * penalty : logit / penalty;
    }
  }
}

void PenalizeAnswer(std::span<float> logits, std::span<const SeenToken> seen, float presence,
                    float frequency) {
  for (const SeenToken& token : seen) {
    if (token.answer_count > 0 && InVocabulary(logits, token.id)) {
      At(logits, token.id) -= presence + frequency * static_cast<float>(token.answer_count);
    }
  }
}

void MaskTokens(std::span<float> logits, std::span<const TokenId> ids) {
  for (const TokenId id : ids) {
    if (InVocabulary(logits, id)) {
      At(logits, id) = -kInfinity;
    }
  }
}

std::vector<Candidate> SelectTop(std::span<const float> logits, std::int64_t count,
                                 float temperature) {
  const auto wanted = static_cast<std::size_t>(std::max<std::int64_t>(count, 0));
  std::vector<Candidate> best;
  if (wanted == 0) {
    return best;
  }
  // Collects what beats the threshold; when the buffer is full, the best `wanted` stay and the
  // threshold rises to the worst of them. Ids come in rising order, so an equal logit never wins.
  const std::size_t capacity = std::min(logits.size(), 2 * wanted + 64);
  best.reserve(capacity);
  const auto shrink = [&] {
    std::nth_element(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(wanted - 1),
                     best.end(), Better);
    best.resize(wanted);
  };
  float threshold = -kInfinity;
  const auto look_at = [&](std::size_t i) {
    if (!(logits[i] > threshold)) {  // also skips NaN and the impossible
      return;
    }
    if (best.size() == capacity) {
      shrink();
      threshold = best.back().logit;
      if (!(logits[i] > threshold)) {
        return;
      }
    }
    best.push_back({.id = static_cast<TokenId>(i), .logit = logits[i]});
  };
  const VocabularyLoops& loops = FastestLoops();
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, logits.size());
    // Once the threshold is high, few blocks have anything above it.
    if (loops.largest(logits.subspan(begin, end - begin)) > threshold) {
      for (std::size_t i = begin; i < end; ++i) {
        look_at(i);
      }
    }
  }
  if (best.size() > wanted) {
    shrink();
  }
  std::sort(best.begin(), best.end(), Better);
  for (Candidate& candidate : best) {
    candidate.weight =
        std::exp((static_cast<double>(candidate.logit) - static_cast<double>(best[0].logit)) /
                 static_cast<double>(temperature));
  }
  return best;
}

bool KeepTopP(std::vector<Candidate>& candidates, float top_p, double total_weight) {
  const double enough = static_cast<double>(top_p) * total_weight;
  double sum = 0.0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    sum += candidates[i].weight;
    if (sum >= enough) {
      candidates.resize(i + 1);
      return true;
    }
  }
  return false;
}

void KeepMinP(std::vector<Candidate>& candidates, float min_p) {
  const auto too_rare = [&](const Candidate& c) { return c.weight < static_cast<double>(min_p); };
  candidates.erase(std::find_if(candidates.begin(), candidates.end(), too_rare), candidates.end());
}

TokenId SampleCandidate(std::span<const Candidate> candidates, double uniform) {
  double total = 0.0;
  for (const Candidate& candidate : candidates) {
    total += candidate.weight;
  }
  const double target = uniform * total;
  double running = 0.0;
  TokenId chosen = candidates.front().id;
  for (const Candidate& candidate : candidates) {
    if (candidate.weight > 0.0) {
      chosen = candidate.id;
      running += candidate.weight;
      if (running > target) {
        break;
      }
    }
  }
  return chosen;
}

}  // namespace yangtuo
