#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

// What adapter_config.json says that a merge needs.
struct PeftConfig {
  std::int32_t rank = 0;
  double scale = 0;             // lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora
  bool fan_in_fan_out = false;  // base weights are stored [in, out]
};

// INVALID_ARGUMENT names file, key, expected and found; UNIMPLEMENTED for what changes the merge
// and is not known here: another peft_type, biases, DoRA, patterns of ranks or alphas, merged
// query-key-value layers.
absl::StatusOr<PeftConfig> ParsePeftConfig(std::string_view json, std::string_view file);

// The factors of one tensor: delta = scale * (b x a).
struct LoraPair {
  StoredTensor a;  // [rank, in]
  StoredTensor b;  // [out, rank]
};

// A PEFT adapter folder: adapter_config.json and adapter_model.safetensors or adapter_model.bin,
// often with the tokenizer that it was trained with. Files stay mapped while this lives.
struct PeftAdapter {
  std::filesystem::path folder;
  PeftConfig config;
  std::map<std::string, LoraPair> pairs;       // by the name of the model's tensor
  std::map<std::string, StoredTensor> saved;   // copies that replace the model's tensor
  std::string tokenizer_model;                 // empty: the folder has none
  std::optional<std::int32_t> tokenizer_size;  // pieces and added tokens
  std::optional<LlamaConfig> model_config;     // of config.json, where the folder has one
  std::shared_ptr<const void> files;

  // SHA-256 over settings and every tensor's name, type, shape and first bytes, hexadecimal: tells
  // adapters apart that were trained on one model, and costs no reading of them.
  [[nodiscard]] std::string WeakDigest() const;
};

// Knows the keys of old and new PEFT ("...lora_A.weight", "...lora_A.default.weight",
// "...modules_to_save.default.weight"). FAILED_PRECONDITION for a factor without its partner and
// for tensors that are none of these (names them); otherwise as the formats' readers say.
absl::StatusOr<PeftAdapter> OpenPeftAdapter(const std::filesystem::path& folder);

}  // namespace yangtuo
