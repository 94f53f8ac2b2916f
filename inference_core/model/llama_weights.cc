#include "inference_core/model/llama_weights.h"

#include <cstddef>
#include <initializer_list>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/stored_rows.h"

namespace yangtuo {
namespace {

using kernels::Linear;
using kernels::MatmulWorkspace;
using kernels::StoredMatrix;

struct MatrixName {
  std::string tensor;
  std::int64_t out = 0;
  std::int64_t in = 0;
};

// Finds tensors and checks their shapes against the configuration's.
class WeightReader {
 public:
  WeightReader(const TensorFiles& files, const LlamaConfig& config, MatmulWorkspace& workspace)
      : files_(files), config_(config), workspace_(workspace) {}

  absl::StatusOr<std::vector<float>> Norm(const std::string& name) const {
    YANGTUO_ASSIGN_OR_RETURN(const StoredTensor tensor, Find(name, {config_.hidden}));
    std::vector<float> values(static_cast<std::size_t>(config_.hidden));
    kernels::WidenRow(tensor.data.data(), tensor.dtype, 0, values);
    return values;
  }

  absl::StatusOr<StoredMatrix> Matrix(const MatrixName& name) const {
    YANGTUO_ASSIGN_OR_RETURN(const StoredTensor tensor, Find(name.tensor, {name.out, name.in}));
    return StoredMatrix{
        .data = tensor.data.data(), .dtype = tensor.dtype, .out = name.out, .in = name.in};
  }

  // One product of the matrices put one below the other.
  absl::StatusOr<Linear> Product(std::initializer_list<MatrixName> names) const {
    std::vector<StoredMatrix> parts;
    for (const MatrixName& name : names) {
      YANGTUO_ASSIGN_OR_RETURN(const StoredMatrix part, Matrix(name));
      parts.push_back(part);
    }
    return Linear::Pack(parts, workspace_);
  }

 private:
  absl::StatusOr<StoredTensor> Find(const std::string& name,
                                    const std::vector<std::int64_t>& shape) const {
    YANGTUO_ASSIGN_OR_RETURN(StoredTensor tensor, files_.Find(name));
    if (tensor.shape != shape) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s: expected shape [%s] by config.json, found [%s]",
                          tensor.file == nullptr ? std::string("?") : tensor.file->string(), name,
                          absl::StrJoin(shape, ", "), absl::StrJoin(tensor.shape, ", ")));
    }
    return tensor;
  }

  const TensorFiles& files_;
  const LlamaConfig& config_;
  MatmulWorkspace& workspace_;
};

absl::StatusOr<LayerWeights> LoadLayer(const WeightReader& reader, const LlamaConfig& config,
                                       std::int32_t layer) {
  const std::string prefix = absl::StrFormat("model.layers.%d.", layer);
  const std::int64_t hidden = config.hidden;
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  YANGTUO_ASSIGN_OR_RETURN(std::vector<float> attention_norm,
                           reader.Norm(prefix + "input_layernorm.weight"));
  YANGTUO_ASSIGN_OR_RETURN(Linear qkv,
                           reader.Product({{prefix + "self_attn.q_proj.weight", queries, hidden},
                                           {prefix + "self_attn.k_proj.weight", keys, hidden},
                                           {prefix + "self_attn.v_proj.weight", keys, hidden}}));
  YANGTUO_ASSIGN_OR_RETURN(Linear attention_out,
                           reader.Product({{prefix + "self_attn.o_proj.weight", hidden, queries}}));
  YANGTUO_ASSIGN_OR_RETURN(std::vector<float> ffn_norm,
                           reader.Norm(prefix + "post_attention_layernorm.weight"));
  YANGTUO_ASSIGN_OR_RETURN(Linear gate_up,
                           reader.Product({{prefix + "mlp.gate_proj.weight", config.ffn, hidden},
                                           {prefix + "mlp.up_proj.weight", config.ffn, hidden}}));
  YANGTUO_ASSIGN_OR_RETURN(Linear down,
                           reader.Product({{prefix + "mlp.down_proj.weight", hidden, config.ffn}}));
  return LayerWeights{.attention_norm = std::move(attention_norm),
                      .qkv = std::move(qkv),
                      .attention_out = std::move(attention_out),
                      .ffn_norm = std::move(ffn_norm),
                      .gate_up = std::move(gate_up),
                      .down = std::move(down)};
}

}  // namespace

absl::StatusOr<LlamaWeights> LoadLlamaWeights(const TensorFiles& files, const LlamaConfig& config,
                                              LayerRange range, MatmulWorkspace& workspace) {
  const WeightReader reader(files, config, workspace);
  const MatrixName embedding{"model.embed_tokens.weight", config.vocab, config.hidden};
  LlamaWeights weights;
  if (range.first == 0) {
    YANGTUO_ASSIGN_OR_RETURN(const StoredMatrix table, reader.Matrix(embedding));
    YANGTUO_ASSIGN_OR_RETURN(weights.embedding, kernels::EmbeddingTable::Copy(table));
  }
  for (std::int32_t layer = range.first; layer < range.last; ++layer) {
    YANGTUO_ASSIGN_OR_RETURN(LayerWeights loaded, LoadLayer(reader, config, layer));
    weights.layers.push_back(std::move(loaded));
  }
  if (range.last == config.layers) {
    const MatrixName own{"lm_head.weight", config.vocab, config.hidden};
    YANGTUO_ASSIGN_OR_RETURN(std::vector<float> norm, reader.Norm("model.norm.weight"));
    YANGTUO_ASSIGN_OR_RETURN(Linear logits,
                             reader.Product({config.tied_embeddings ? embedding : own}));
    weights.head = HeadWeights{.norm = std::move(norm), .logits = std::move(logits)};
  }
  return weights;
}

std::vector<kernels::MatmulShape> MatmulShapes(const LlamaConfig& config) {
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  return {{.in = config.hidden, .out = queries + 2 * keys},
          {.in = queries, .out = config.hidden},
          {.in = config.hidden, .out = 2 * std::int64_t{config.ffn}},
          {.in = config.ffn, .out = config.hidden},
          {.in = config.hidden, .out = config.vocab}};
}

}  // namespace yangtuo
