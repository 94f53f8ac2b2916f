#pragma once

#include <filesystem>
#include <string_view>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/formats/gguf.h"

namespace yangtuo {

// A GGUF file of the architecture "llama". Rows of queries and keys lie interleaved there and are
// read as halves, of quantized types too. INVALID_ARGUMENT and UNIMPLEMENTED name file and key.
absl::StatusOr<Checkpoint> OpenGgufFile(const std::filesystem::path& path);

// What a file's metadata and tensors say of the model's shape.
absl::StatusOr<LlamaConfig> ReadGgufConfig(const GgufFile& file);

}  // namespace yangtuo
