#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "inference_core/formats/gguf.h"

namespace yangtuo {

// The sentencepiece model that a file's tokenizer.ggml keys stand for; empty where there are none
// or they are of another kind of tokenizer than "llama". INVALID_ARGUMENT and DATA_LOSS name the
// file.
absl::StatusOr<std::string> TokenizerOfGguf(const GgufFile& file);

}  // namespace yangtuo
