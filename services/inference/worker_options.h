#pragma once

#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/engine/engine.h"
#include "inference_core/model/llama_stage.h"
#include "services/common/service_options.h"
#include "services/inference/shard_handshake.h"

namespace yangtuo {

// Everything that the flags of yangtuo-worker say.
struct WorkerOptions {
  ServiceOptions service;
  std::string model;       // HF folder
  std::string model_name;  // public name; empty: the folder's
  std::string shard;       // "i/n"; or
  std::string layers;      // "a:b"; neither: the whole model
  std::string next;        // shard address of the worker with the following layers
  std::string shard_listen = "127.0.0.1:50060";
  WeightType weight_type = WeightType::kAuto;
  std::int32_t context_tokens = 0;
  std::int32_t kv_blocks = 0;
  std::int64_t kv_memory_bytes = std::int64_t{1} << 30;
  std::int32_t threads = 0;
  EngineOptions engine;
  ShardTiming timing;
};

// Flags, their examples and groups. `options` holds the defaults and outlives `app`.
void AddWorkerFlags(CLI::App& app, WorkerOptions& options);

// What can be said without reading weights; INVALID_ARGUMENT naming the flag.
absl::Status CheckWorkerOptions(const WorkerOptions& options);

// The public name: as given, else the model folder's.
std::string PublicModelName(const WorkerOptions& options);

// The layers that this worker holds, of `num_layers`.
absl::StatusOr<LayerRange> LayersOf(const WorkerOptions& options, std::int32_t num_layers);

}  // namespace yangtuo
