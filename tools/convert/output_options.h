#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/conversion_plan.h"

namespace yangtuo {

// What commands that write a model let the user say of it.
struct OutputOptions {
  std::filesystem::path output;
  std::string format;                 // safetensors, bin, pth or gguf; empty: by the output's name
  std::int32_t shards = 0;            // of pth; 0: as Meta publishes models of this size
  std::uint64_t max_shard_bytes = 0;  // of safetensors and bin; 0: 5 GB
  std::int32_t threads = 0;           // 0: as many as this process may use
  bool dry_run = false;
  bool json = false;
};

// --output, --format, --shards, --max-shard-size, --threads, --dry-run, --json.
void AddOutputFlags(CLI::App& app, OutputOptions& options);

// INVALID_ARGUMENT also for flags that this format does not have.
absl::StatusOr<CheckpointFormat> FormatNamed(const OutputOptions& options);
[[nodiscard]] std::string_view NameOf(CheckpointFormat format);

// The number of files that Meta publishes for models of this hidden size: 1, 2, 4 or 8.
[[nodiscard]] std::int32_t MetaShardsFor(const LlamaConfig& config);

// INVALID_ARGUMENT lists the types.
absl::StatusOr<DType> TypeNamed(std::string_view name);

// What --type asks for: every matrix in that type; empty: as they are. Norms are plain: f32 in a
// GGUF file, as llama.cpp wants them; from there to other formats in the matrices' type, if it is
// plain, so that a model that goes there and back is the same; else as they are.
absl::StatusOr<TypePolicy> ConversionTypes(std::string_view type, const Checkpoint& input,
                                           CheckpointFormat output);

}  // namespace yangtuo
