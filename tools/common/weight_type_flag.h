#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "inference_core/model/llama_stage.h"

namespace yangtuo {

// Weight types by the names that flags have: "auto", "f32", "bf16", "int8", "int4", "gguf".
[[nodiscard]] inline std::vector<std::string> WeightTypeNames() {
  return {"auto", "f32", "bf16", "int8", "int4", "gguf"};
}

// `name` is one of them.
[[nodiscard]] inline WeightType WeightTypeNamed(const std::string& name) {
  const std::vector<std::string> names = WeightTypeNames();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names[i] == name) {
      return static_cast<WeightType>(i);
    }
  }
  return WeightType::kAuto;
}

// Types of the KV cache likewise: "f32", "bf16", "int8".
[[nodiscard]] inline std::vector<std::string> KvTypeNames() {
  std::vector<std::string> names;
  for (const kernels::KvType type : kernels::kKvTypes) {
    names.emplace_back(kernels::NameOf(type));
  }
  return names;
}
[[nodiscard]] inline kernels::KvType KvTypeOf(const std::string& name) {
  return kernels::KvTypeNamed(name).value_or(kernels::KvType::kF32);
}

}  // namespace yangtuo
