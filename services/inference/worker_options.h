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

struct WorkerOptions {
  ServiceOptions service;
  StageOptions stage;                     // layers and rows of a step are filled in by the worker
  std::string model_name;                 // empty: the folder's name
  std::string packed_weights = "beside";  // or "off", or a folder
  std::string layers;                     // "a:b", or
  std::string shard;                      // "i/n"; both empty: the whole model
  std::string next;                       // shard address of the worker with the following layers
  std::string shard_listen = "127.0.0.1:50060";
  EngineOptions engine;
  ShardTiming shard_timing;
};

void AddWorkerFlags(CLI::App& app, WorkerOptions& options);

// What can be said without reading the model. INVALID_ARGUMENT names the flag.
absl::Status CheckWorkerOptions(const WorkerOptions& options);

// Where a worker stands in its group.
struct ShardPlace {
  LayerRange layers;
  std::int32_t index = 0;   // a guess for --layers, until the shard before tells
  std::int32_t shards = 1;  // likewise
  [[nodiscard]] bool leads() const { return layers.first == 0; }
};

// INVALID_ARGUMENT when the flags do not fit a model of `num_layers`, or --next is missing or too
// much.
absl::StatusOr<ShardPlace> ResolvePlace(const WorkerOptions& options, std::int32_t num_layers);

// Where the worker with the following layers listens; "" when none follows. "{next}" in --next
// stands for the number of the following shard, so that all workers of a group can be started with
// one template: the last one, too, which then has nobody to connect to.
std::string NextAddress(const WorkerOptions& options, const ShardPlace& place);

}  // namespace yangtuo
