#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/model_writer.h"

namespace yangtuo {

// The tensors of `model` as the GGUF file model.path, queries and keys interleaved, with the keys
// that llama.cpp needs of an architecture "llama" and a sentencepiece tokenizer.
absl::StatusOr<std::unique_ptr<TensorSink>> NewGgufSink(const OutputModel& model);

}  // namespace yangtuo
