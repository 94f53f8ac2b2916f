#include "tools/estimate/estimate.h"

#include <algorithm>

namespace yangtuo {
namespace {

constexpr std::int64_t kBlock = kernels::kBlockPositions;
constexpr std::int64_t kProcess = 150'000'000;  // libraries, tokenizer, threads: measured
constexpr std::int64_t kMergeProcess = 200'000'000;
constexpr std::int64_t kLogitRows = 16;

struct WeightMatrix {
  std::int64_t out;
  std::int64_t in;
};

std::vector<WeightMatrix> MatricesOf(const LlamaConfig& config) {
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  std::vector<WeightMatrix> matrices;
  for (std::int32_t layer = 0; layer < config.layers; ++layer) {
    matrices.insert(matrices.end(), {{queries, config.hidden},
                                     {keys, config.hidden},
                                     {keys, config.hidden},
                                     {config.hidden, queries},
                                     {config.ffn, config.hidden},
                                     {config.ffn, config.hidden},
                                     {config.hidden, config.ffn}});
  }
  matrices.push_back({config.vocab, config.hidden});
  if (!config.tied_embeddings) {
    matrices.push_back({config.vocab, config.hidden});
  }
  return matrices;
}

std::int64_t NormCount(const LlamaConfig& config) {
  return (2 * std::int64_t{config.layers} + 1) * config.hidden;
}

}  // namespace

std::optional<LlamaConfig> ShapeNamed(std::string_view name, std::int32_t vocab) {
  struct Shape {
    std::string_view name;
    std::int32_t layers, hidden, heads, ffn, vocab, context;
    float eps;
  };
  constexpr Shape kShapes[] = {{"1.3b", 4, 4096, 32, 11008, 55296, 4096, 1e-5F},
                               {"7b", 32, 4096, 32, 11008, 49954, 2048, 1e-6F},
                               {"13b", 40, 5120, 40, 13824, 49954, 2048, 1e-6F},
                               {"33b", 60, 6656, 52, 17920, 49954, 2048, 1e-6F},
                               {"65b", 80, 8192, 64, 22016, 49954, 2048, 1e-5F}};
  const auto* const shape = std::find_if(std::begin(kShapes), std::end(kShapes),
                                         [name](const Shape& known) { return known.name == name; });
  if (shape == std::end(kShapes)) {
    return std::nullopt;
  }
  LlamaConfig config;
  config.layers = shape->layers;
  config.hidden = shape->hidden;
  config.heads = shape->heads;
  config.kv_heads = shape->heads;
  config.head_dim = shape->hidden / shape->heads;
  config.ffn = shape->ffn;
  config.vocab = vocab > 0 ? vocab : shape->vocab;
  config.context_tokens = shape->context;
  config.norm_eps = shape->eps;
  return config;
}

std::int64_t ParameterCount(const LlamaConfig& config) {
  std::int64_t count = NormCount(config);
  for (const WeightMatrix& matrix : MatricesOf(config)) {
    count += matrix.out * matrix.in;
  }
  return count;
}

std::int64_t WeightBytes(const LlamaConfig& config, DType type) {
  std::int64_t bytes = NormCount(config) * SizeOf(DType::kF32);
  for (const WeightMatrix& matrix : MatricesOf(config)) {
    bytes += matrix.out * RowBytes(RowFits(type, matrix.in) ? type : DType::kF16, matrix.in);
  }
  return bytes;
}

std::int64_t KvBytesPerToken(const LlamaConfig& config, kernels::KvType type) {
  const kernels::KvLayout layout{
      .type = type, .kv_heads = config.kv_heads, .head_dim = config.head_dim};
  return config.layers * layout.block_bytes() / kernels::kBlockPositions;
}

Estimate EstimateModel(const EstimateQuestion& question) {
  const LlamaConfig& config = question.config;
  const std::int64_t context = question.context > 0 ? question.context : config.context_tokens;
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  std::int64_t largest = 0;
  for (const WeightMatrix& matrix : MatricesOf(config)) {
    largest = std::max(largest, matrix.out * matrix.in);
  }
  Estimate estimate;
  estimate.parameters = ParameterCount(config);
  estimate.weights = WeightBytes(config, question.type);
  estimate.kv_per_token = KvBytesPerToken(config, question.kv_type);
  estimate.kv =
      (context + kBlock - 1) / kBlock * kBlock * estimate.kv_per_token * question.concurrency;
  estimate.activations =
      SizeOf(DType::kF32) * (question.step_tokens * (2 * std::int64_t{config.hidden} + 2 * queries +
                                                     2 * keys + 3 * std::int64_t{config.ffn}) +
                             kLogitRows * (2 * std::int64_t{config.hidden} + config.vocab));
  estimate.memory = estimate.weights + estimate.kv + estimate.activations + kProcess;
  estimate.merge_memory = 4 * largest * SizeOf(DType::kF16) + kMergeProcess;
  estimate.f16_disk = WeightBytes(config, DType::kF16);
  return estimate;
}

}  // namespace yangtuo
