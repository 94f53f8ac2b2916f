#include "inference_core/checkpoint/model_writer.h"

#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/gguf_output.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/meta_writer.h"
#include "inference_core/formats/tensor_file_writer.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

class FilesSink final : public TensorSink {
 public:
  explicit FilesSink(std::unique_ptr<TensorFileWriter> writer) : writer_(std::move(writer)) {}

  absl::Status Append(std::size_t index, std::span<const std::byte> rows) override {
    return writer_->Append(index, rows);
  }
  absl::Status Finish() override { return writer_->Finish(); }

 private:
  std::unique_ptr<TensorFileWriter> writer_;
};

bool Holds(CheckpointFormat format, DType type) {
  const bool ours = type == DType::kInt8 || type == DType::kInt4;
  switch (format) {
    case CheckpointFormat::kSafetensors:
      return IsPlain(type) || ours;
    case CheckpointFormat::kTorchBin:
    case CheckpointFormat::kMeta:
      return IsPlain(type);
    case CheckpointFormat::kGguf:
      return !ours;
    case CheckpointFormat::kLlama2C:
      return false;
  }
  return false;
}

absl::Status CheckMeta(const OutputModel& model) {
  const LlamaConfig& config = model.config;
  if (config.head_dim * config.heads != config.hidden) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Meta's layout has heads of hidden / heads (%d / %d), this model has heads "
                        "of %d; write another format",
                        config.hidden, config.heads, config.head_dim));
  }
  const auto divides = [&](std::int32_t size) { return size % model.meta_shards == 0; };
  if (model.meta_shards < 1 || !divides(config.heads) || !divides(config.kv_heads) ||
      !divides(config.hidden) || !divides(config.ffn)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d shards do not divide %d heads, %d key heads, hidden size %d and ffn size %d",
        model.meta_shards, config.heads, config.kv_heads, config.hidden, config.ffn));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TensorSink>> NewSink(const OutputModel& model,
                                                    const fs::path& folder) {
  switch (model.format) {
    case CheckpointFormat::kMeta:
      return NewMetaSink(model, folder);
    case CheckpointFormat::kGguf:
      return NewGgufSink(model);
    default:
      break;
  }
  ModelFilesOptions options;
  options.max_shard_bytes = model.max_shard_bytes;
  YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<TensorFileWriter> writer,
                           model.format == CheckpointFormat::kTorchBin
                               ? NewTorchModelWriter(folder, model.tensors, options)
                               : NewSafetensorsModelWriter(folder, model.tensors, options));
  return std::make_unique<FilesSink>(std::move(writer));
}

}  // namespace

absl::Status CheckOutput(const OutputModel& model) {
  const std::vector<LlamaTensor> tensors = ListLlamaTensors(model.config);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (i >= model.tensors.size() || model.tensors[i].name != HfName(tensors[i]) ||
        model.tensors[i].shape != tensors[i].shape) {
      return absl::InternalError(
          absl::StrFormat("the model to be written lacks tensor %s", HfName(tensors[i])));
    }
    if (!Holds(model.format, model.tensors[i].dtype)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "tensor %s: type %s cannot be written in this format: f32, f16 and bf16 go into all, "
          "int8 and int4 into safetensors, the others into gguf",
          model.tensors[i].name, NameOf(model.tensors[i].dtype)));
    }
  }
  return model.format == CheckpointFormat::kMeta ? CheckMeta(model) : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ModelWriter>> ModelWriter::Create(const OutputModel& model) {
  YANGTUO_RETURN_IF_ERROR(CheckOutput(model));
  std::unique_ptr<ModelWriter> writer(new ModelWriter());
  writer->path_ = model.path;
  fs::path folder;
  if (model.format != CheckpointFormat::kGguf) {
    YANGTUO_ASSIGN_OR_RETURN(writer->folder_, OutputFolder::Create(model.path));
    folder = writer->folder_->path();
  }
  YANGTUO_ASSIGN_OR_RETURN(writer->tensors_, NewSink(model, folder));
  return writer;
}

ModelWriter::~ModelWriter() = default;

absl::Status ModelWriter::Append(std::size_t index, std::span<const std::byte> rows) {
  return tensors_->Append(index, rows);
}

absl::Status ModelWriter::AddFile(std::string_view name, std::string_view content) {
  if (folder_.has_value()) {
    return WriteOutputFile(folder_->path() / name, content);
  }
  beside_.push_back({.name = std::string(name), .content = std::string(content)});
  return absl::OkStatus();
}

absl::Status ModelWriter::Finish() {
  YANGTUO_RETURN_IF_ERROR(tensors_->Finish());
  for (const SmallFile& file : beside_) {
    fs::path path = path_;
    path += "." + file.name;
    YANGTUO_RETURN_IF_ERROR(WriteOutputFile(path, file.content));
  }
  return folder_.has_value() ? folder_->Commit() : absl::OkStatus();
}

}  // namespace yangtuo
