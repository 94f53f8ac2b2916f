#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/grammar/answer_constraint.h"
#include "inference_core/kernels/integer_kernels.h"
#include "inference_core/kernels/kv_layout.h"
#include "inference_core/model/product_observer.h"
#include "inference_core/model/stage.h"

namespace yangtuo {

// kAuto: int8 or int4 where the model's products are stored so (int4 for other types of five bits
// and less, int8 for others of nine and less); else bf16 where the CPU multiplies it, else f32.
enum class WeightType : std::uint8_t { kAuto, kF32, kBF16, kInt8, kInt4, kGguf };

// Which part of a model to load, and how much to hold.
struct StageOptions {
  std::filesystem::path model;                  // whatever OpenCheckpoint opens
  std::vector<std::filesystem::path> adapters;  // merged into it, in order, while it is read
  std::int32_t first_layer = 0;
  std::int32_t last_layer = -1;  // one past the last; -1: all of the model
  WeightType weight_type = WeightType::kAuto;
  std::int32_t context_tokens = 0;  // 0: the model's
  // Of the KV cache. Perplexity of poem-llama against f32: bf16 0.99999, int8 1.00000.
  kernels::KvType kv_type = kernels::KvType::kBf16;
  std::int32_t kv_blocks = 0;  // 0: as many as `kv_memory_bytes` holds for these layers
  std::int64_t kv_memory_bytes = std::int64_t{1} << 30;
  std::int32_t max_step_tokens = 512;
  std::int32_t threads = 0;  // compute threads; 0: one per usable core
  kernels::IntegerPath integer_path = kernels::IntegerPath::kFastest;
  // Folder where weights that are searched for as they are loaded (int4 of other types) are kept as
  // packed, to be read back at the next start; empty: nowhere.
  std::filesystem::path packed_weights;
  // Weights of fewer bytes are packed sooner than it pays to keep them.
  std::int64_t packed_weights_least_bytes = std::int64_t{128} << 20;
  // Holds answers to constraints at the model's end; null: such sequences are refused.
  std::shared_ptr<AnswerConstraints> constraints;
  ProductObserver* observer = nullptr;  // none, or one that outlives the stage
};

// What a model is before it is loaded; shards compare it when they shake hands.
struct ModelIdentity {
  LlamaConfig config;
  std::string digest;       // content digest, hexadecimal
  std::string numerics;     // as in StageInfo
  std::string weight_type;  // "f32", "bf16", "int8", "int4" or "gguf", the choice that kAuto made
};

absl::StatusOr<ModelIdentity> IdentifyModel(const StageOptions& options);

constexpr std::int32_t kKvBlockSize = 32;

// Loads layers [first_layer, last_layer) and builds their stage. When the last layer is not the
// model's last, `next` runs the rest (its info must continue at last_layer with the same digest and
// numerics: FAILED_PRECONDITION otherwise, naming both); when it is, `next` must be null. Only the
// tensors of the range are read: embeddings at the first layer, final norm and head at the last (a
// tied head: the embedding again). Errors name file and tensor.
absl::StatusOr<std::unique_ptr<Stage>> LoadLlamaStage(const StageOptions& options,
                                                      std::unique_ptr<Stage> next);

// Splits `layers` into `shards` nearly equal ranges; the earlier ones take the remainder, the last
// one (which also has the head) never more than the others.
struct LayerRange {
  std::int32_t first = 0;
  std::int32_t last = 0;
};
absl::StatusOr<LayerRange> ShardLayers(std::int32_t layers, std::int32_t shard,
                                       std::int32_t shards);

}  // namespace yangtuo
