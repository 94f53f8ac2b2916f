#include "tests/inference_core/model/raw_logits.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/model/kv_storage.h"
#include "inference_core/model/numerics.h"

namespace yangtuo {
namespace {

constexpr int kThreads = 1;  // tests share their machine; more would wait for each other
constexpr std::int32_t kMaxRows = 512;

template <typename T>
T OrThrow(absl::StatusOr<T> value) {
  if (!value.ok()) {
    throw std::runtime_error(value.status().ToString());
  }
  return *std::move(value);
}

}  // namespace

RawModel::RawModel(const std::filesystem::path& folder, WeightType type, kernels::KvType kv_type) {
  const Checkpoint checkpoint = OrThrow(OpenCheckpoint(folder));
  const LlamaConfig& config = checkpoint.config;
  const Numerics numerics =
      OrThrow(DecideNumerics(config, {.type = type, .threads = kThreads, .max_rows = kMaxRows}));
  auto workspace = OrThrow(kernels::MatmulWorkspace::Create(numerics.matmul));
  auto weights = OrThrow(LoadLlamaWeights(*checkpoint.tensors, config,
                                          {.first = 0, .last = config.layers}, workspace));
  const kernels::KvLayout layout{
      .type = kv_type, .kv_heads = config.kv_heads, .head_dim = config.head_dim};
  auto kv = OrThrow(
      KvStorage::Create({.layout = layout, .layers = config.layers, .blocks = kMaxRows / 32}));
  shard_ = std::make_unique<LlamaShard>(
      LlamaShard::Options{.config = config,
                          .context_tokens = std::min(config.context_tokens, kMaxRows),
                          .max_step_tokens = kMaxRows,
                          .threads = kThreads},
      std::move(weights), std::move(kv), std::move(workspace));
}

std::vector<std::vector<float>> RawModel::Logits(std::span<const TokenId> ids) {
  Step step;
  StepRows rows;
  rows.token_ids.assign(ids.begin(), ids.end());
  rows.kv_blocks.resize(kMaxRows / 32);
  std::iota(rows.kv_blocks.begin(), rows.kv_blocks.end(), 0);
  step.rows.push_back(std::move(rows));
  const ConstMatrix x = OrThrow(shard_->Forward(step));
  const std::int64_t vocab = shard_->options().config.vocab;
  std::vector<float> normed(static_cast<std::size_t>(x.size()));
  std::vector<float> logits(static_cast<std::size_t>(x.dim(0) * vocab));
  const absl::Status status =
      shard_->Logits(x, Matrix(normed.data(), x.dims()), Matrix(logits.data(), {x.dim(0), vocab}));
  if (!status.ok()) {
    throw std::runtime_error(status.ToString());
  }
  std::vector<std::vector<float>> by_row;
  for (std::int64_t r = 0; r < x.dim(0); ++r) {
    by_row.emplace_back(logits.begin() + r * vocab, logits.begin() + (r + 1) * vocab);
  }
  return by_row;
}

double LogProbability(std::span<const float> logits, TokenId id) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - largest);
  }
  return static_cast<double>(logits[static_cast<std::size_t>(id)]) - largest - std::log(sum);
}

}  // namespace yangtuo
