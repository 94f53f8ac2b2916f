#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/base/output_file.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/tensor_sink.h"
#include "inference_core/checkpoint/tensor_source.h"

namespace yangtuo {

// A model that is to be written.
struct OutputModel {
  std::filesystem::path path;  // a new folder, or the file of kGguf
  CheckpointFormat format = CheckpointFormat::kSafetensors;
  LlamaConfig config;
  std::vector<TensorSpec> tensors;  // Hugging Face's names, all that the configuration calls for
  std::string tokenizer_model;      // empty: none
  // These go into a GGUF file, whose tokenizer is all in one: what the JSON files beside
  // tokenizer.model add behind its pieces, by id, and the template of dialogues.
  std::map<std::int32_t, std::string> added_tokens;
  std::string chat_template;
  std::int32_t meta_shards = 1;
  // Of safetensors and torch files.
  std::uint64_t max_shard_bytes = std::numeric_limits<std::uint64_t>::max();
};

// INVALID_ARGUMENT for what the format cannot hold, in words: types (Meta and torch files have
// plain ones only, GGUF no int8 and int4, safetensors only those of Yangtuo), shards that do not
// divide heads or layers' sizes, heads that Meta's params.json cannot express.
absl::Status CheckOutput(const OutputModel& model);

// Writes one model. Nothing appears under `path` before Finish is OK; its disk is taken at once
// (RESOURCE_EXHAUSTED says how much is missing). ALREADY_EXISTS for a folder that is not empty.
class ModelWriter final : public TensorSink {
 public:
  static absl::StatusOr<std::unique_ptr<ModelWriter>> Create(const OutputModel& model);
  ~ModelWriter() override;

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override;
  // A small file of the model's folder; beside a GGUF file its name begins with that file's.
  absl::Status AddFile(std::string_view name, std::string_view content);
  absl::Status Finish() override;

 private:
  struct SmallFile {
    std::string name;
    std::string content;
  };

  ModelWriter() = default;

  std::filesystem::path path_;
  std::optional<OutputFolder> folder_;  // none of a GGUF file
  std::unique_ptr<TensorSink> tensors_;
  std::vector<SmallFile> beside_;  // of a GGUF file: written after it
};

}  // namespace yangtuo
