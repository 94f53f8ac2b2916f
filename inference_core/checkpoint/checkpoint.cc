#include "inference_core/checkpoint/checkpoint.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/manifest.h"
#include "inference_core/checkpoint/open_gguf.h"
#include "inference_core/checkpoint/open_hf.h"
#include "inference_core/checkpoint/open_llama2c.h"
#include "inference_core/checkpoint/open_meta.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLargestTokenizer = std::size_t{64} << 20;

bool IsThere(const fs::path& path) {
  std::error_code unreadable;
  return fs::exists(path, unreadable);
}

// Safetensors count first: folders that have both keep the torch files for older programs.
CheckpointFormat FormatOf(const fs::path& folder) {
  bool torch = false;
  bool meta = false;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.ends_with(".safetensors") && !name.starts_with("adapter_")) {
      return CheckpointFormat::kSafetensors;
    }
    torch = torch || (name.starts_with("pytorch_model") && name.ends_with(".bin"));
    meta = meta || (name.starts_with("consolidated.") && name.ends_with(".pth"));
  }
  return torch  ? CheckpointFormat::kTorchBin
         : meta ? CheckpointFormat::kMeta
                : CheckpointFormat::kSafetensors;
}

// tokenizer.model and what the JSON files beside it say of a chat template.
absl::Status ReadTokenizer(const fs::path& folder, Checkpoint& checkpoint) {
  const fs::path path = folder / "tokenizer.model";
  if (IsThere(path)) {
    YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    if (file.bytes().size() > kLargestTokenizer) {
      return absl::DataLossError(
          absl::StrFormat("%s: expected a sentencepiece model of at most %d bytes, found %d",
                          path.string(), kLargestTokenizer, file.bytes().size()));
    }
    checkpoint.tokenizer_model.assign(reinterpret_cast<const char*>(file.bytes().data()),
                                      file.bytes().size());
    checkpoint.tokenizer_file = path;
  }
  YANGTUO_ASSIGN_OR_RETURN(HfTokenizerFiles files, ReadHfTokenizerFiles(folder));
  checkpoint.chat_template = std::move(files.chat_template);
  return absl::OkStatus();
}

absl::StatusOr<Checkpoint> OpenFolder(const fs::path& folder) {
  if (!IsThere(folder / "config.json") && IsThere(folder / "adapter_config.json")) {
    return absl::NotFoundError(absl::StrFormat(
        "%s: expected a model, found a LoRA adapter; merge it with the model it was trained on: "
        "yangtuo merge-lora --base MODEL --lora %s --output PATH",
        folder.string(), folder.string()));
  }
  const CheckpointFormat format = FormatOf(folder);
  YANGTUO_ASSIGN_OR_RETURN(Checkpoint checkpoint, format == CheckpointFormat::kMeta
                                                      ? OpenMetaFolder(folder)
                                                      : OpenHfFolder(folder, format));
  if (IsThere(folder / "config.json")) {
    checkpoint.config_file = folder / "config.json";
  }
  if (IsThere(folder / "generation_config.json")) {
    checkpoint.generation_config_file = folder / "generation_config.json";
  }
  YANGTUO_RETURN_IF_ERROR(ReadTokenizer(folder, checkpoint));
  return checkpoint;
}

// A GGUF file by its first bytes, one of llama2.c by its name: it has no mark of its own.
absl::StatusOr<Checkpoint> OpenFile(const fs::path& path) {
  constexpr std::string_view kGgufMagic = "GGUF";
  std::string begin;
  {
    YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    begin.assign(reinterpret_cast<const char*>(file.bytes().data()),
                 std::min(file.bytes().size(), kGgufMagic.size()));
  }
  if (begin == kGgufMagic) {
    return OpenGgufFile(path);
  }
  if (path.extension() == ".bin" && !begin.starts_with("PK")) {
    YANGTUO_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenLlama2cFile(path));
    YANGTUO_RETURN_IF_ERROR(ReadTokenizer(path.parent_path(), checkpoint));
    return checkpoint;
  }
  return absl::NotFoundError(absl::StrFormat(
      "%s: expected a model folder, a GGUF file or llama2.c's .bin, found another file; of a model "
      "in several files give the folder",
      path.string()));
}

// A manifest that is of other files, or damaged, is as good as none: verify says so.
absl::StatusOr<Checkpoint> WithManifest(Checkpoint checkpoint) {
  const absl::StatusOr<std::optional<Manifest>> manifest = ReadManifest(checkpoint.path);
  if (!manifest.ok() || !manifest->has_value() ||
      (*manifest)->config != checkpoint.config.Canonical()) {
    return checkpoint;
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::string fingerprint, FingerprintOf(*checkpoint.tensors));
  if (fingerprint == (*manifest)->fingerprint) {
    checkpoint.digest = (*manifest)->Digest();
    checkpoint.weak_digest = false;
  }
  return checkpoint;
}

}  // namespace

absl::StatusOr<Checkpoint> OpenCheckpoint(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    return absl::NotFoundError(
        absl::StrFormat("%s: expected a model folder or file, found nothing there", path.string()));
  }
  YANGTUO_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                           fs::is_directory(status) ? OpenFolder(path) : OpenFile(path));
  return WithManifest(std::move(checkpoint));
}

}  // namespace yangtuo
