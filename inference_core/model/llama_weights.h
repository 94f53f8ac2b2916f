#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/tensor_source.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/kernels/embedding.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/row_policy.h"
#include "inference_core/model/llama_stage.h"
#include "inference_core/model/packed_weights.h"

namespace yangtuo {

// One decoder block's weights. Products that read the same input are one.
struct LayerWeights {
  std::vector<float> attention_norm;  // [hidden]
  kernels::Linear qkv;                // hidden -> (heads + 2 kv_heads) * head_dim
  kernels::Linear attention_out;      // heads * head_dim -> hidden
  std::vector<float> ffn_norm;        // [hidden]
  kernels::Linear gate_up;            // hidden -> 2 ffn
  kernels::Linear down;               // ffn -> hidden
};

struct HeadWeights {
  std::vector<float> norm;  // [hidden]
  kernels::Linear logits;   // hidden -> vocab
};

// Layers [first, last) of a model, with the embedding before the first and the head after the last.
struct LlamaWeights {
  std::optional<kernels::EmbeddingTable> embedding;
  std::vector<LayerWeights> layers;
  std::optional<HeadWeights> head;

  // Memory that the products take: all but the embedding, of which a step reads a few rows.
  [[nodiscard]] std::int64_t product_bytes() const;
  // Of all products, the head's included.
  [[nodiscard]] kernels::PackingLoss loss() const;
};

// Reads the tensors of `range` and no others, and lets go of each once it is packed. Errors name
// file, tensor, expected and found shape.
//
// With `packed`, products come from there or are written there; see PackedWeights::Product.
absl::StatusOr<LlamaWeights> LoadLlamaWeights(const TensorSource& source, const LlamaConfig& config,
                                              LayerRange range, kernels::MatmulWorkspace& workspace,
                                              PackedWeights* packed = nullptr);

// The products that a whole model of this shape computes.
[[nodiscard]] std::vector<kernels::MatmulShape> MatmulShapes(const LlamaConfig& config);

}  // namespace yangtuo
