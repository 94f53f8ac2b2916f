#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace yangtuo {

// The shape of a LLaMA-architecture model, from a Hugging Face config.json (and, for the
// end-of-text ids, generation_config.json). Checked: sizes positive and bounded, heads divisible.
struct LlamaConfig {
  std::int32_t layers = 0;
  std::int32_t hidden = 0;
  std::int32_t heads = 0;
  std::int32_t kv_heads = 0;
  std::int32_t head_dim = 0;
  std::int32_t ffn = 0;
  std::int32_t vocab = 0;
  std::int32_t context_tokens = 0;  // max_position_embeddings
  float norm_eps = 1e-6F;
  float rope_theta = 10000.0F;
  float rope_linear_factor = 1.0F;  // position interpolation: positions are divided by it
  bool tied_embeddings = false;
  std::int32_t bos_id = 1;
  std::vector<std::int32_t> eos_ids = {2};

  // One line per field in a fixed order, for digests.
  [[nodiscard]] std::string Canonical() const;
};

// INVALID_ARGUMENT names the file, the key, what was expected and what was found; UNIMPLEMENTED for
// another architecture, activation, or rope variant than none and "linear".
absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view json, std::string_view file);
// config.json of `folder`, with what generation_config.json beside it overrides.
absl::StatusOr<LlamaConfig> ReadLlamaConfig(const std::filesystem::path& folder);
// Takes the end-of-text ids of a generation_config.json, if there is such a file and it has any.
absl::Status ReadGenerationConfig(const std::filesystem::path& path, LlamaConfig& config);

}  // namespace yangtuo
