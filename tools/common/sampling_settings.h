#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "yangtuo/v1/generation.pb.h"

namespace yangtuo {

// How an answer is chosen. The defaults are those that the Chinese-Alpaca models were served with.
struct SamplingSettings {
  float temperature = 0.2F;
  std::uint32_t top_k = 40;
  float top_p = 0.9F;
  std::optional<float> min_p;
  float repetition_penalty = 1.1F;
  std::optional<float> presence_penalty;
  std::optional<float> frequency_penalty;
  std::optional<std::uint64_t> seed;
  std::optional<std::uint32_t> max_new_tokens;  // absent: 512, or the context where it is smaller
  std::vector<std::string> stop;

  // The tokens that an answer of the model may take.
  [[nodiscard]] std::uint32_t MaxNewTokens(const v1::Model& model) const;
  void ApplyTo(v1::GenerateRequest& request, const v1::Model& model) const;
};

}  // namespace yangtuo
