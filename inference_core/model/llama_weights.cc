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
#include "inference_core/quant/quant.h"

namespace yangtuo {
namespace {

using kernels::EmbeddingTable;
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
  WeightReader(const TensorSource& source, const LlamaConfig& config, MatmulWorkspace& workspace,
               PackedWeights* packed)
      : source_(source), config_(config), workspace_(workspace), packed_(packed) {}

  absl::StatusOr<std::vector<float>> Norm(const std::string& name) const {
    YANGTUO_ASSIGN_OR_RETURN(const std::size_t index, Find(name, {config_.hidden}));
    const TensorSpec& tensor = source_.tensors()[index];
    std::vector<std::byte> row(static_cast<std::size_t>(tensor.row_bytes()));
    YANGTUO_RETURN_IF_ERROR(source_.ReadRows(index, 0, 1, row));
    std::vector<float> values(static_cast<std::size_t>(config_.hidden));
    DequantizeRow(tensor.dtype, row, values);
    return values;
  }

  absl::StatusOr<EmbeddingTable> Embedding(const MatrixName& name) const {
    // Integer products come with the wish for little memory, and round more than this does.
    const kernels::MatmulType type = workspace_.options().type;
    const EmbeddingTable::Keep keep = kernels::IsInteger(type) && type != kernels::MatmulType::kGguf
                                          ? EmbeddingTable::Keep::kInt8
                                          : EmbeddingTable::Keep::kAsStored;
    YANGTUO_ASSIGN_OR_RETURN(const std::size_t index, Find(name.tensor, {name.out, name.in}));
    auto table = EmbeddingTable::Copy(Stored(index), keep);
    source_.Forget(index);
    return table;
  }

  // One product of the matrices put one below the other.
  absl::StatusOr<Linear> Product(std::initializer_list<MatrixName> names) const {
    std::vector<StoredMatrix> parts;
    std::vector<std::size_t> indices;
    for (const MatrixName& name : names) {
      YANGTUO_ASSIGN_OR_RETURN(const std::size_t index, Find(name.tensor, {name.out, name.in}));
      parts.push_back(Stored(index));
      indices.push_back(index);
    }
    auto linear =
        packed_ == nullptr ? Linear::Pack(parts, workspace_) : packed_->Product(parts, workspace_);
    for (const std::size_t index : indices) {
      source_.Forget(index);
    }
    return linear;
  }

 private:
  absl::StatusOr<std::size_t> Find(const std::string& name,
                                   const std::vector<std::int64_t>& shape) const {
    YANGTUO_ASSIGN_OR_RETURN(const std::size_t index, FindTensor(source_, name));
    const TensorSpec& tensor = source_.tensors()[index];
    if (tensor.shape != shape) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: tensor %s: expected shape [%s] by the model's configuration, found [%s]",
          source_.Origin(index), name, absl::StrJoin(shape, ", "),
          absl::StrJoin(tensor.shape, ", ")));
    }
    return index;
  }

  [[nodiscard]] StoredMatrix Stored(std::size_t index) const {
    const TensorSpec& tensor = source_.tensors()[index];
    const std::span<const std::byte> mapped = source_.Mapped(index);
    StoredMatrix matrix{.data = mapped.empty() ? nullptr : mapped.data(),
                        .dtype = tensor.dtype,
                        .out = tensor.rows(),
                        .in = tensor.cols()};
    if (mapped.empty()) {
      matrix.read = [this, index](std::int64_t first, std::int64_t count,
                                  std::span<std::byte> rows) {
        return source_.ReadRows(index, first, count, rows);
      };
    }
    return matrix;
  }

  const TensorSource& source_;
  const LlamaConfig& config_;
  MatmulWorkspace& workspace_;
  PackedWeights* packed_;  // or null
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

absl::StatusOr<LlamaWeights> LoadLlamaWeights(const TensorSource& source, const LlamaConfig& config,
                                              LayerRange range, MatmulWorkspace& workspace,
                                              PackedWeights* packed) {
  const WeightReader reader(source, config, workspace, packed);
  const MatrixName embedding{"model.embed_tokens.weight", config.vocab, config.hidden};
  LlamaWeights weights;
  if (range.first == 0) {
    YANGTUO_ASSIGN_OR_RETURN(weights.embedding, reader.Embedding(embedding));
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

std::int64_t LlamaWeights::product_bytes() const {
  std::int64_t bytes = 0;
  for (const LayerWeights& layer : layers) {
    bytes += layer.qkv.bytes() + layer.attention_out.bytes() + layer.gate_up.bytes() +
             layer.down.bytes();
  }
  return bytes + (head.has_value() ? head->logits.bytes() : 0);
}

kernels::PackingLoss LlamaWeights::loss() const {
  kernels::PackingLoss loss;
  for (const LayerWeights& layer : layers) {
    for (const Linear* const product :
         {&layer.qkv, &layer.attention_out, &layer.gate_up, &layer.down}) {
      loss.Add(product->loss());
    }
  }
  if (head.has_value()) {
    loss.Add(head->logits.loss());
  }
  return loss;
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
