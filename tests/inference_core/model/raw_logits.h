#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "inference_core/kernels/kv_layout.h"
#include "inference_core/model/llama_shard.h"
#include "inference_core/model/llama_stage.h"

namespace yangtuo {

// A whole model below the Stage seam, where logits can be seen.
class RawModel {
 public:
  // Throws std::runtime_error.
  RawModel(const std::filesystem::path& folder, WeightType type,
           kernels::KvType kv_type = kernels::KvType::kF32);

  // Logits [ids, vocab] after every token of one sequence that starts anew.
  [[nodiscard]] std::vector<std::vector<float>> Logits(std::span<const TokenId> ids);

 private:
  std::unique_ptr<LlamaShard> shard_;
};

// Natural log-probability of `id` in double.
[[nodiscard]] double LogProbability(std::span<const float> logits, TokenId id);

}  // namespace yangtuo
