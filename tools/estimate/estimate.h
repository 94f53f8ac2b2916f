#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "inference_core/formats/hf_config.h"
#include "inference_core/kernels/kv_layout.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// The shapes of the published families: "1.3b" (4 layers, Chinese-LLaMA-2's), "7b", "13b", "33b",
// "65b". `vocab` 0: the family's own with Chinese pieces (49954; 55296 for 1.3b). Nullopt: no such.
[[nodiscard]] std::optional<LlamaConfig> ShapeNamed(std::string_view name, std::int32_t vocab);

// Norms and matrices, embedding and head (once when tied).
[[nodiscard]] std::int64_t ParameterCount(const LlamaConfig& config);
// Of the weights in `type`; norms are f32, and a matrix whose rows do not divide into blocks f16.
[[nodiscard]] std::int64_t WeightBytes(const LlamaConfig& config, DType type);
// Keys and values of one position in all layers, as workers keep them.
[[nodiscard]] std::int64_t KvBytesPerToken(const LlamaConfig& config, kernels::KvType type);

struct EstimateQuestion {
  LlamaConfig config;
  DType type = DType::kBF16;
  kernels::KvType kv_type = kernels::KvType::kBf16;
  std::int64_t context = 0;      // tokens a request holds, prompt and answer
  std::int64_t concurrency = 1;  // requests at the same time
  std::int64_t step_tokens = 512;
};

struct Estimate {
  std::int64_t parameters = 0;
  std::int64_t weights = 0;  // in memory and on disk
  std::int64_t kv_per_token = 0;
  std::int64_t kv = 0;            // of all requests, in whole blocks of 32 positions
  std::int64_t activations = 0;   // of a step, and logits
  std::int64_t memory = 0;        // of a worker with all layers: the sum, and 150 MB of its own
  std::int64_t merge_memory = 0;  // bound of merge-lora: four times the largest tensor, and 200 MB
  std::int64_t f16_disk = 0;      // of the merged model before quantization
};

[[nodiscard]] Estimate EstimateModel(const EstimateQuestion& question);

}  // namespace yangtuo
