#include "inference_core/model/llama_shard.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <utility>

#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

AlignedBuffer<float> RowsOf(const LlamaShard::Options& options, std::int64_t cols) {
  return AlignedBuffer<float>(static_cast<std::size_t>(options.max_step_tokens * cols));
}

std::int64_t Queries(const LlamaConfig& config) {
  return std::int64_t{config.heads} * config.head_dim;
}
std::int64_t Keys(const LlamaConfig& config) {
  return std::int64_t{config.kv_heads} * config.head_dim;
}

}  // namespace

LlamaShard::LlamaShard(const Options& options, LlamaWeights weights, KvStorage kv,
                       kernels::MatmulWorkspace workspace)
    : options_(options),
      weights_(std::move(weights)),
      kv_(std::move(kv)),
      workspace_(std::move(workspace)),
      rope_({.positions = options.context_tokens,
             .head_dim = options.config.head_dim,
             .theta = options.config.rope_theta,
             .linear_factor = options.config.rope_linear_factor}),
      attention_({.kv = kv_.shape().layout,
                  .heads = options.config.heads,
                  .max_positions = options.context_tokens,
                  .threads = options.threads}),
      residual_(RowsOf(options, options.config.hidden)),
      normed_(RowsOf(options, options.config.hidden)),
      qkv_(RowsOf(options, Queries(options.config) + 2 * Keys(options.config))),
      attended_(RowsOf(options, Queries(options.config))),
      gate_up_(RowsOf(options, 2 * std::int64_t{options.config.ffn})),
      gated_(RowsOf(options, options.config.ffn)) {}

Matrix LlamaShard::Use(AlignedBuffer<float>& buffer, std::int64_t cols) {
  return Matrix(buffer.data(), {tokens_, cols});
}

void LlamaShard::ReadRows(const Step& step) {
  positions_.clear();
  ids_.clear();
  sequences_.clear();
  for (const StepRows& rows : step.rows) {
    const auto count = static_cast<std::int32_t>(rows.token_ids.size());
    sequences_.push_back({.first_row = static_cast<std::int64_t>(positions_.size()),
                          .rows = count,
                          .first_position = rows.first_position,
                          .blocks = rows.kv_blocks});
    for (std::int32_t i = 0; i < count; ++i) {
      positions_.push_back(rows.first_position + i);
    }
    ids_.insert(ids_.end(), rows.token_ids.begin(), rows.token_ids.end());
  }
  tokens_ = static_cast<std::int64_t>(positions_.size());
}

absl::StatusOr<ConstMatrix> LlamaShard::Forward(const Step& step) {
  ReadRows(step);
  const Matrix x = Use(residual_, options_.config.hidden);
  if (tokens_ == 0) {
    return ConstMatrix(x);
  }
  if (weights_.embedding.has_value()) {
    weights_.embedding->LookUp(ids_, x);
  } else {
    assert(static_cast<std::int64_t>(step.hidden.size()) == x.size());
    std::copy(step.hidden.begin(), step.hidden.end(), x.data());
  }
  attention_.Plan(sequences_);
  layer_ = 0;
  for (const LayerWeights& layer : weights_.layers) {
    YANGTUO_RETURN_IF_ERROR(RunLayer(layer, kv_.layer(layer_), x));
    ++layer_;
  }
  return ConstMatrix(x);
}

// One decoder block (arXiv:2302.13971, section 2.2): x is the residual stream [tokens, hidden].
//   h = x + W_o attention(rope(W_q n), rope(W_k n), W_v n)   with n = rms_norm(x)
//   y = h + W_down (silu(W_gate m) * (W_up m))               with m = rms_norm(h)
absl::Status LlamaShard::RunLayer(const LayerWeights& layer, std::byte* kv, Matrix x) {
  const LlamaConfig& config = options_.config;
  const int threads = options_.threads;
  const Matrix normed = Use(normed_, config.hidden);
  const Matrix added = normed;  // free again once its product is taken
  kernels::RmsNorm(x, layer.attention_norm, config.norm_eps, normed, threads);

  const std::int64_t queries = Queries(config);
  const std::int64_t keys = Keys(config);
  const Matrix qkv = Use(qkv_, queries + 2 * keys);
  Observe(Product::kQkv, normed);
  YANGTUO_RETURN_IF_ERROR(layer.qkv.Run(normed, qkv, workspace_));
  const kernels::Rows<float> q = kernels::Rows<float>(qkv).Columns(0, queries);
  const kernels::Rows<float> k = kernels::Rows<float>(qkv).Columns(queries, keys);
  const kernels::Rows<float> v = kernels::Rows<float>(qkv).Columns(queries + keys, keys);
  rope_.Apply(positions_, q, threads);
  rope_.Apply(positions_, k, threads);

  kernels::StoreKeysAndValues(kv_.shape().layout, sequences_, {.keys = k, .values = v}, kv,
                              threads);
  const Matrix attended = Use(attended_, queries);
  attention_.Run(q, kv, attended);
  Observe(Product::kAttentionOut, attended);
  YANGTUO_RETURN_IF_ERROR(layer.attention_out.Run(attended, added, workspace_));
  kernels::Add(added, x, threads);

  kernels::RmsNorm(x, layer.ffn_norm, config.norm_eps, normed, threads);
  const Matrix gate_up = Use(gate_up_, 2 * std::int64_t{config.ffn});
  Observe(Product::kGateUp, normed);
  YANGTUO_RETURN_IF_ERROR(layer.gate_up.Run(normed, gate_up, workspace_));
  const Matrix gated = Use(gated_, config.ffn);
  kernels::SwiGlu(gate_up, gated, threads);
  Observe(Product::kDown, gated);
  YANGTUO_RETURN_IF_ERROR(layer.down.Run(gated, added, workspace_));
  kernels::Add(added, x, threads);
  return absl::OkStatus();
}

void LlamaShard::FinalNorm(ConstMatrix x, Matrix normed) const {
  kernels::RmsNorm(x, weights_.head->norm, options_.config.norm_eps, normed, options_.threads);
}

absl::Status LlamaShard::Logits(ConstMatrix x, Matrix normed, Matrix logits) {
  FinalNorm(x, normed);
  Observe(Product::kLogits, normed);
  return weights_.head->logits.Run(normed, logits, workspace_);
}

}  // namespace yangtuo
