#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/tensor_source.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/kernels/kv_layout.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/model/llama_stage.h"

namespace yangtuo {

// The one function of weights and tokens that this process computes for a model, and its name.
struct Numerics {
  kernels::MatmulOptions matmul;
  std::string weight_type;  // "f32", "bf16", "int8", "int4" or "gguf"
  // "<weights>/kv-<type>/<instruction set>/<row policy>/<fingerprint of products>/v<version>".
  // Equal names, equal bits: the fingerprint covers what else decides how oneDNN sums (cache sizes
  // and its own version, say). Integer sums are exact and have neither policy nor fingerprint:
  // "<weights>/kv-<type>/<instruction set>/v<version>". To the letter, <weights> has what products
  // are of: "gguf-q4_k+q6_k".
  std::string name;
};

struct NumericsQuestion {
  std::string stored = {};              // StoredTypes of the model, for kGguf
  WeightType type = WeightType::kAuto;  // kAuto: bf16 where the CPU multiplies it, else f32
  kernels::KvType kv_type = kernels::KvType::kF32;
  kernels::IntegerPath path = kernels::IntegerPath::kFastest;
  int threads = 1;
  std::int32_t max_rows = 512;  // of one step
};

// Runs the self-test of the model's product shapes where the type needs one (see
// kernels::FindRowPolicy). UNIMPLEMENTED when this CPU cannot compute with the type.
absl::StatusOr<Numerics> DecideNumerics(const LlamaConfig& config,
                                        const NumericsQuestion& question);

// The types that the matrices of a model are computed with to the letter, joined by "+".
[[nodiscard]] std::string StoredTypes(const TensorSource& tensors);

// The weight type for a model of such tensors where none is asked for; kAuto: any.
[[nodiscard]] WeightType WeightTypeFor(const TensorSource& tensors);

}  // namespace yangtuo
