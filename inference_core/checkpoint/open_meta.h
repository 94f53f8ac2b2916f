#pragma once

#include <cstdint>
#include <filesystem>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/llama_tensors.h"

namespace yangtuo {

// How Meta's shards share out a tensor.
enum class MetaSplit : std::uint8_t {
  kRows,     // wq, wk, wv, w1, w3, output: each shard has the next rows
  kColumns,  // wo, w2, tok_embeddings: each shard has the next columns of every row
  kCopies,   // norms
};
[[nodiscard]] MetaSplit MetaSplitOf(LlamaPart part);

// A folder of consolidated.NN.pth (1 to 64 shards) and params.json, with a config.json where it was
// written by Yangtuo: that one says what params.json cannot (context, rope scaling). Shards may be
// uneven. Errors name file and tensor.
absl::StatusOr<Checkpoint> OpenMetaFolder(const std::filesystem::path& folder);

}  // namespace yangtuo
