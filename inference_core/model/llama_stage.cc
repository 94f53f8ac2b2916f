#include "inference_core/model/llama_stage.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/model/kv_storage.h"
#include "inference_core/model/llama_shard.h"
#include "inference_core/model/llama_weights.h"
#include "inference_core/model/local_stage.h"
#include "inference_core/model/numerics.h"
#include "inference_core/model/packed_place.h"
#include "inference_core/model/packed_weights.h"
#include "inference_core/model/pipeline_stage.h"

namespace yangtuo {
namespace {

static_assert(kKvBlockSize == kernels::kBlockPositions);

// Options with every default filled in, checked against the model.
absl::StatusOr<StageOptions> Resolve(StageOptions options, const LlamaConfig& config) {
  const std::string model = options.model.string();
  if (options.last_layer == -1) {
    options.last_layer = config.layers;
  }
  if (options.first_layer < 0 || options.first_layer >= options.last_layer ||
      options.last_layer > config.layers) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s has layers [0, %d), a stage of [%d, %d) is not a part of it", model,
                        config.layers, options.first_layer, options.last_layer));
  }
  if (options.context_tokens == 0) {
    options.context_tokens = config.context_tokens;
  }
  if (options.context_tokens < 1 || options.context_tokens > config.context_tokens) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a context of %d tokens: %s was made for at most %d",
                        options.context_tokens, model, config.context_tokens));
  }
  if (options.max_step_tokens < 1 || options.kv_blocks < 0 || options.kv_memory_bytes < 0 ||
      options.threads < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "expected at least one row a step and no negative sizes, found %d rows, %d KV blocks, %d "
        "bytes of KV memory, %d threads",
        options.max_step_tokens, options.kv_blocks, options.kv_memory_bytes, options.threads));
  }
  if (config.head_dim > kernels::kMaxHeadDim || config.head_dim % 2 != 0) {
    return absl::UnimplementedError(
        absl::StrFormat("%s: head_dim %d, expected an even number up to %d", model, config.head_dim,
                        kernels::kMaxHeadDim));
  }
  if (options.threads == 0) {
    options.threads = GetCpuLimits().compute_threads();
  }
  return options;
}

kernels::KvLayout LayoutOf(const StageOptions& options, const LlamaConfig& config) {
  return {.type = options.kv_type, .kv_heads = config.kv_heads, .head_dim = config.head_dim};
}

absl::StatusOr<KvStorage> MakeKvStorage(const StageOptions& options, const LlamaConfig& config) {
  const kernels::KvLayout layout = LayoutOf(options, config);
  const std::int32_t layers = options.last_layer - options.first_layer;
  std::int32_t blocks = options.kv_blocks;
  if (blocks == 0) {
    const std::int64_t fitting = KvStorage::BlocksIn(options.kv_memory_bytes, layout, layers);
    blocks = static_cast<std::int32_t>(
        std::min<std::int64_t>(fitting, std::numeric_limits<std::int32_t>::max()));
  }
  if (blocks < 1) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d bytes of KV memory hold no block: one of %d layers takes %d bytes",
                        options.kv_memory_bytes, layers, layout.block_bytes() * layers));
  }
  return KvStorage::Create({.layout = layout, .layers = layers, .blocks = blocks});
}

// What must be equal all along a chain, and that `next` begins where `info`'s own layers end.
absl::Status CheckChain(const StageInfo& info, std::int32_t last_layer, const Stage* next) {
  if (next == nullptr) {
    if (last_layer == info.num_layers) {
      return absl::OkStatus();
    }
    return absl::FailedPreconditionError(
        absl::StrFormat("layers [%d, %d) of %d need a next stage that begins at layer %d",
                        info.first_layer, last_layer, info.num_layers, last_layer));
  }
  const StageInfo& other = next->info();
  if (last_layer == info.num_layers) {
    return absl::FailedPreconditionError(
        absl::StrFormat("layers [%d, %d) end the model, but a next stage is given (of layers %d "
                        "to %d)",
                        info.first_layer, last_layer, other.first_layer, other.num_layers));
  }
  if (other.first_layer != last_layer || other.num_layers != info.num_layers) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "layers [%d, %d) of %d: the next stage must begin at layer %d of as many, it begins at %d "
        "of %d",
        info.first_layer, last_layer, info.num_layers, last_layer, other.first_layer,
        other.num_layers));
  }
  if (other.model_digest != info.model_digest || other.hidden != info.hidden ||
      other.vocab != info.vocab) {
    return absl::FailedPreconditionError(
        absl::StrFormat("the next stage holds another model: digest %s here, %s there",
                        info.model_digest, other.model_digest));
  }
  if (other.numerics != info.numerics || other.kv_block_size != info.kv_block_size) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the next stage computes otherwise: %s with KV blocks of %d here, %s with %d there",
        info.numerics, info.kv_block_size, other.numerics, other.kv_block_size));
  }
  return absl::OkStatus();
}

// The chain from here on: what the weakest of its stages can hold.
StageInfo Joined(StageInfo info, const StageInfo& next) {
  info.context_tokens = std::min(info.context_tokens, next.context_tokens);
  info.kv_blocks = std::min(info.kv_blocks, next.kv_blocks);
  info.max_step_tokens = std::min(info.max_step_tokens, next.max_step_tokens);
  info.depth = next.depth + 1;
  info.constrains = info.constrains && next.constrains;
  return info;
}

// A model, opened and checked but not loaded.
struct OpenedModel {
  LlamaConfig config;
  std::shared_ptr<const TensorSource> tensors;
  std::string digest;
  StageOptions options;
  Numerics numerics;
};

absl::StatusOr<OpenedModel> Open(const StageOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(options.model));
  if (!options.adapters.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(checkpoint, WithAdapters(std::move(checkpoint), options.adapters));
  }
  YANGTUO_ASSIGN_OR_RETURN(StageOptions resolved, Resolve(options, checkpoint.config));
  if (resolved.weight_type == WeightType::kAuto) {
    resolved.weight_type = WeightTypeFor(*checkpoint.tensors);
  }
  YANGTUO_ASSIGN_OR_RETURN(
      Numerics numerics,
      DecideNumerics(checkpoint.config, {.stored = StoredTypes(*checkpoint.tensors),
                                         .type = resolved.weight_type,
                                         .kv_type = resolved.kv_type,
                                         .path = resolved.integer_path,
                                         .threads = resolved.threads,
                                         .max_rows = resolved.max_step_tokens}));
  return OpenedModel{.config = std::move(checkpoint.config),
                     .tensors = std::move(checkpoint.tensors),
                     .digest = std::move(checkpoint.digest),
                     .options = std::move(resolved),
                     .numerics = std::move(numerics)};
}

absl::StatusOr<LlamaWeights> LoadWeights(const OpenedModel& model,
                                         kernels::MatmulWorkspace& workspace,
                                         PackedWeights* packed) {
  return LoadLlamaWeights(*model.tensors, model.config,
                          {.first = model.options.first_layer, .last = model.options.last_layer},
                          workspace, packed);
}

// Weights as LoadWeights gives them, by way of packed ones where such are kept. `outcome` as in
// StageInfo::packed_weights.
absl::StatusOr<LlamaWeights> LoadOrRestore(const OpenedModel& model,
                                           kernels::MatmulWorkspace& workspace,
                                           std::string& outcome) {
  const std::optional<PackedPlace> place = PackedPlaceOf({.options = model.options,
                                                          .config = model.config,
                                                          .tensors = *model.tensors,
                                                          .digest = model.digest,
                                                          .type = model.numerics.matmul.type});
  if (!place.has_value()) {
    return LoadWeights(model, workspace, nullptr);
  }
  absl::StatusOr<PackedWeights> kept = PackedWeights::Open(place->file, place->key);
  if (kept.ok()) {
    absl::StatusOr<LlamaWeights> weights = LoadWeights(model, workspace, &*kept);
    if (weights.ok()) {
      outcome = absl::StrFormat("read %d bytes of %s", kept->bytes(), place->file.string());
      return weights;
    }
    if (!absl::IsDataLoss(weights.status())) {
      return weights;
    }
  }
  // There is none, or not this model's: it is written anew.
  absl::StatusOr<PackedWeights> made = PackedWeights::Create(place->file, place->key);
  YANGTUO_ASSIGN_OR_RETURN(LlamaWeights weights,
                           LoadWeights(model, workspace, made.ok() ? &*made : nullptr));
  const absl::Status written = made.ok() ? made->Commit() : made.status();
  outcome = written.ok()
                ? absl::StrFormat("written: %d bytes to %s", made->bytes(), place->file.string())
                : absl::StrFormat("not written: %s", std::string(written.message()));
  return weights;
}

absl::StatusOr<std::unique_ptr<LlamaShard>> LoadShard(const OpenedModel& model,
                                                      std::string& packed_weights) {
  YANGTUO_ASSIGN_OR_RETURN(kernels::MatmulWorkspace workspace,
                           kernels::MatmulWorkspace::Create(model.numerics.matmul));
  YANGTUO_ASSIGN_OR_RETURN(KvStorage kv, MakeKvStorage(model.options, model.config));
  YANGTUO_ASSIGN_OR_RETURN(LlamaWeights weights, LoadOrRestore(model, workspace, packed_weights));
  const LlamaShard::Options shard_options{.config = model.config,
                                          .context_tokens = model.options.context_tokens,
                                          .max_step_tokens = model.options.max_step_tokens,
                                          .threads = model.options.threads,
                                          .observer = model.options.observer};
  return std::make_unique<LlamaShard>(shard_options, std::move(weights), std::move(kv),
                                      std::move(workspace));
}

StageInfo InfoOf(const OpenedModel& model) {
  return {.model_digest = model.digest,
          .numerics = model.numerics.name,
          .weight_type = model.numerics.weight_type,
          .first_layer = model.options.first_layer,
          .num_layers = model.config.layers,
          .hidden = model.config.hidden,
          .vocab = model.config.vocab,
          .context_tokens = model.options.context_tokens,
          .kv_block_size = kKvBlockSize,
          .kv_blocks = 0,
          .max_step_tokens = model.options.max_step_tokens,
          .depth = 1,
          .constrains = model.options.constraints != nullptr};
}

absl::StatusOr<std::unique_ptr<Stage>> LoadOpened(const OpenedModel& model,
                                                  std::unique_ptr<Stage> next) {
  StageInfo info = InfoOf(model);
  YANGTUO_RETURN_IF_ERROR(CheckChain(info, model.options.last_layer, next.get()));
  YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<LlamaShard> shard,
                           LoadShard(model, info.packed_weights));
  info.kv_blocks = shard->kv().shape().blocks;
  info.weights_error = shard->weights().loss().relative();
  info.weight_bytes = shard->weights().product_bytes();
  info.kv_token_bytes = shard->kv().shape().layout.block_bytes() / kKvBlockSize *
                        (model.options.last_layer - model.options.first_layer);
  if (next == nullptr) {
    return std::make_unique<LocalStage>(std::move(info), std::move(shard),
                                        model.options.constraints);
  }
  info = Joined(std::move(info), next->info());
  return std::make_unique<PipelineStage>(std::move(info), std::move(shard), std::move(next));
}

}  // namespace

absl::StatusOr<ModelIdentity> IdentifyModel(const StageOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(OpenedModel model, Open(options));
  return ModelIdentity{.config = std::move(model.config),
                       .digest = std::move(model.digest),
                       .numerics = std::move(model.numerics.name),
                       .weight_type = std::move(model.numerics.weight_type)};
}

absl::StatusOr<std::unique_ptr<Stage>> LoadLlamaStage(const StageOptions& options,
                                                      std::unique_ptr<Stage> next) {
  try {
    YANGTUO_ASSIGN_OR_RETURN(const OpenedModel model, Open(options));
    return LoadOpened(model, std::move(next));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("no memory to load %s: give this worker fewer layers or more memory",
                        options.model.string()));
  }
}

absl::StatusOr<LayerRange> ShardLayers(std::int32_t layers, std::int32_t shard,
                                       std::int32_t shards) {
  if (shards < 1 || shards > layers || shard < 0 || shard >= shards) {
    return absl::InvalidArgumentError(
        absl::StrFormat("shard %d of %d shards of %d layers: expected 1 to %d shards, numbered "
                        "from 0",
                        shard, shards, layers, layers));
  }
  const std::int32_t each = layers / shards;
  const std::int32_t larger = layers % shards;
  const std::int32_t first = shard * each + std::min(shard, larger);
  return LayerRange{.first = first, .last = first + each + (shard < larger ? 1 : 0)};
}

}  // namespace yangtuo
