#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "inference_core/checkpoint/tensor_source.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/model/llama_stage.h"

namespace yangtuo {

// A stage about to be loaded, its options resolved.
struct PackedQuestion {
  const StageOptions& options;
  const LlamaConfig& config;
  const TensorSource& tensors;
  const std::string& digest;
  kernels::MatmulType type;
};

// Where the packed weights of a stage are kept.
struct PackedPlace {
  std::filesystem::path file;
  // SHA-256 over all that the packed bytes depend on: the model's digest, its files' sizes and
  // times (a digest without a manifest does not see every change), type, layers, and the version of
  // what is searched for and how it is laid out.
  std::string key;
};

// None where keeping them is not wanted, or gains nothing: few bytes, or no search (int4 is all
// that is searched for, unless it is stored so). Models with adapters are not kept: merge those
// that are served for long.
[[nodiscard]] std::optional<PackedPlace> PackedPlaceOf(const PackedQuestion& question);

}  // namespace yangtuo
