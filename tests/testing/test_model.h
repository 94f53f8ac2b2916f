#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "inference_core/formats/hf_config.h"
#include "inference_core/tensor/dtype.h"
#include "tests/testing/safetensors_writer.h"

namespace yangtuo {

// A Hugging Face model folder with random weights.
struct TestModel {
  LlamaConfig config;
  DType dtype = DType::kF32;
  // Same seed and config, same values (before rounding to dtype), however many files.
  std::uint64_t seed = 1;
  int files = 1;                         // more than one: an index and numbered files
  std::filesystem::path tokenizer = {};  // copied as tokenizer.model when not empty
};

// 2 layers, hidden 32, 4 heads in 2 groups, ffn 48, vocab 64, context 128: runs in microseconds.
[[nodiscard]] LlamaConfig TinyLlamaConfig();

// Names and shapes of a model's tensors, in the order of computation.
[[nodiscard]] std::vector<PlainTensor> LlamaTensors(const LlamaConfig& config, DType dtype);

// Writes config.json, the weights and the tokenizer into the existing folder. Throws
// std::runtime_error.
//
// Weights are uniform with variance 1/fan-in (the head's is 16 times that, so that the best token
// stands out and greedy answers do not hang on the last bit), norms lie around 1.
void WriteTestModel(const TestModel& model, const std::filesystem::path& folder);

// The text of config.json.
[[nodiscard]] std::string EncodeConfig(const LlamaConfig& config, DType dtype);

}  // namespace yangtuo
