#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/tensor/dtype.h"

namespace yangtuo {

// The sizes that benchmarks are made with: "1.3b" (four layers of the 7B shape), "7b", "13b",
// "33b", "65b", all with the vocabulary of Chinese-LLaMA-2. nullopt for another name.
[[nodiscard]] std::optional<LlamaConfig> NamedShape(const std::string& name);
[[nodiscard]] std::vector<std::string> ShapeNames();

// Whether a made-up model can be written in `type`: f16, q8_0 and q4_0.
[[nodiscard]] bool CanMakeUp(DType type);

// Writes a GGUF file that every program of the llama.cpp family loads, with made-up weights (the
// same for the same shape and type) and a made-up vocabulary of byte and word pieces. The weights
// are drawn as they are stored, at disk speed, and have the spread that keeps activations in range;
// what such a model says means nothing.
absl::Status MakeModel(const LlamaConfig& config, DType type, const std::filesystem::path& file,
                       const std::function<void(std::int64_t bytes, std::int64_t of)>& on_progress);

}  // namespace yangtuo
