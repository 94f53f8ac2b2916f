#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/tensor_source.h"
#include "inference_core/formats/hf_config.h"

namespace yangtuo {

enum class CheckpointFormat : std::uint8_t {
  kSafetensors,  // Hugging Face folder, *.safetensors
  kTorchBin,     // Hugging Face folder, pytorch_model*.bin
  kMeta,         // consolidated.NN.pth and params.json
  kGguf,         // one file
  kLlama2C,      // one .bin file of llama2.c; read only
};

// A model on disk, opened and checked, not read. The files stay mapped while this lives.
struct Checkpoint {
  std::filesystem::path path;
  CheckpointFormat format = CheckpointFormat::kSafetensors;
  LlamaConfig config;
  std::filesystem::path config_file;             // the config.json that says so; empty: none
  std::filesystem::path generation_config_file;  // generation_config.json likewise
  std::shared_ptr<const TensorSource> tensors;
  // The sentencepiece model: of tokenizer.model beside the model, or made from a GGUF's own pieces
  // (then `tokenizer_file` is empty). Empty where the model has none.
  std::string tokenizer_model;
  std::filesystem::path tokenizer_file;
  std::string chat_template;  // what the model says of itself, as hf_tokenizer_files reads it
  // Content digest, hexadecimal: from the manifest beside the model if there is one and it still
  // fits, else over configuration, headers and file sizes (`weak_digest`).
  std::string digest;
  bool weak_digest = true;
};

// Recognises what `path` is (a folder or a file) and opens it. NOT_FOUND (nothing there that is a
// model; says what was looked for), DATA_LOSS, INVALID_ARGUMENT, UNIMPLEMENTED as the formats'
// readers say.
absl::StatusOr<Checkpoint> OpenCheckpoint(const std::filesystem::path& path);

// `base` with adapters applied in order, computed as its rows are read: what merge-lora writes and
// what a worker loads of an unmerged pair. Refuses pairs that do not belong together
// (FAILED_PRECONDITION, naming the right pairing). After each adapter every value is rounded once
// to `rounding`, a plain type; all tensors have it then (lora_sums.h has the rule).
absl::StatusOr<Checkpoint> WithAdapters(Checkpoint base,
                                        std::span<const std::filesystem::path> adapters,
                                        DType rounding = DType::kF16);

}  // namespace yangtuo
