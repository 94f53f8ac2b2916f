#include "tools/convert/model_side_files.h"

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <vector>

#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/hf_files.h"
#include "inference_core/checkpoint/manifest.h"
#include "tools/common/json_text.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 4> kTokenizerFiles = {
    "special_tokens_map.json", "tokenizer_config.json", "added_tokens.json", "chat_template.jinja"};

// What config.json says of the weights' type: that of most models' matrices, or of the activations
// that quantized ones are meant for.
DType PlainTypeOf(const std::vector<TensorSpec>& tensors) {
  for (const TensorSpec& tensor : tensors) {
    if (tensor.shape.size() == 2) {
      return IsPlain(tensor.dtype) ? tensor.dtype : DType::kF16;
    }
  }
  return DType::kF16;
}

absl::Status CopySmallFile(const fs::path& from, ModelWriter& writer) {
  std::error_code error;
  if (!fs::exists(from, error)) {
    return absl::OkStatus();
  }
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(from));
  return writer.AddFile(from.filename().string(),
                        {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
}

}  // namespace

absl::Status AddSideFiles(const Checkpoint& input, const OutputModel& output, ModelWriter& writer) {
  if (output.format == CheckpointFormat::kGguf) {
    return absl::OkStatus();
  }
  YANGTUO_ASSIGN_OR_RETURN(
      const std::string config,
      HfConfigText(output.config, PlainTypeOf(output.tensors), input.config_file));
  YANGTUO_RETURN_IF_ERROR(writer.AddFile("config.json", config));
  if (output.format == CheckpointFormat::kMeta) {
    YANGTUO_RETURN_IF_ERROR(writer.AddFile("params.json", MetaParamsText(output.config)));
  }
  if (!input.generation_config_file.empty()) {
    YANGTUO_RETURN_IF_ERROR(CopySmallFile(input.generation_config_file, writer));
  }
  if (!output.tokenizer_model.empty()) {
    YANGTUO_RETURN_IF_ERROR(writer.AddFile("tokenizer.model", output.tokenizer_model));
  }
  if (input.tokenizer_file.empty() && !output.chat_template.empty()) {
    const nlohmann::ordered_json tokenizer = {{"tokenizer_class", "LlamaTokenizer"},
                                              {"chat_template", output.chat_template}};
    YANGTUO_RETURN_IF_ERROR(writer.AddFile("tokenizer_config.json", JsonText(tokenizer)));
  }
  if (!input.tokenizer_file.empty()) {
    for (const std::string_view name : kTokenizerFiles) {
      YANGTUO_RETURN_IF_ERROR(CopySmallFile(input.tokenizer_file.parent_path() / name, writer));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> AddManifest(const OutputModel& output,
                                        std::span<const CopiedTensor> tensors,
                                        ModelWriter& writer) {
  LlamaConfig config = output.config;
  if (output.format == CheckpointFormat::kGguf && config.eos_ids.size() > 1) {
    config.eos_ids = {config.eos_ids.front()};  // all that the file can say
  }
  Manifest manifest;
  manifest.config = config.Canonical();
  std::vector<TensorDigest> ends;
  for (const CopiedTensor& tensor : tensors) {
    manifest.tensors.push_back({.spec = tensor.spec, .sha256 = tensor.sha256});
    ends.push_back({.spec = tensor.spec, .sha256 = tensor.ends_sha256});
  }
  manifest.fingerprint = FingerprintOf(ends);
  YANGTUO_RETURN_IF_ERROR(writer.AddFile(kManifestName, manifest.Encode()));
  return manifest.Digest();
}

}  // namespace yangtuo
