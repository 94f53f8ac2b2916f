#include "inference_core/checkpoint/peft_adapter.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/tensor_files.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, StoredTensor>;

bool IsThere(const fs::path& path) {
  std::error_code unreadable;
  return fs::exists(path, unreadable);
}

absl::StatusOr<Tensors> ReadTensors(const fs::path& folder, PeftAdapter& adapter) {
  for (const char* const name : {"adapter_model.safetensors", "adapter_model.bin"}) {
    if (!IsThere(folder / name)) {
      continue;
    }
    YANGTUO_ASSIGN_OR_RETURN(TensorFiles opened, TensorFiles::OpenFile(folder / name));
    const auto files = std::make_shared<const TensorFiles>(std::move(opened));
    adapter.files = files;
    Tensors tensors;
    for (const std::string& key : files->Names()) {
      YANGTUO_ASSIGN_OR_RETURN(tensors[key], files->Find(key));
    }
    return tensors;
  }
  return absl::NotFoundError(absl::StrFormat(
      "%s: expected adapter_model.safetensors or adapter_model.bin beside adapter_config.json, "
      "found neither",
      folder.string()));
}

// What a key of the adapter's file stands for.
struct AdapterKey {
  enum class Kind { kA, kB, kSaved, kOther };
  Kind kind = Kind::kOther;
  std::string tensor;  // the model's
};

// "base_model.model." + module + one of ".lora_A.weight", ".lora_A.NAME.weight",
// ".modules_to_save.NAME.weight", ".modules_to_save.weight" and ".weight". NAME is the adapter's
// ("default"), in newer PEFT.
AdapterKey ReadKey(std::string_view key) {
  constexpr std::string_view kPrefix = "base_model.model.";
  constexpr std::string_view kWeight = ".weight";
  if (!key.starts_with(kPrefix) || !key.ends_with(kWeight)) {
    return {};
  }
  key.remove_prefix(kPrefix.size());
  key.remove_suffix(kWeight.size());
  const auto module_before = [key](std::string_view part) -> std::optional<std::string> {
    const std::size_t at = key.rfind(part);
    if (at == std::string_view::npos) {
      return std::nullopt;
    }
    const std::string_view rest = key.substr(at + part.size());
    const bool only_a_name = rest.empty() || (rest.size() > 1 && rest[0] == '.' &&
                                              rest.find('.', 1) == std::string_view::npos);
    return only_a_name ? std::optional(std::string(key.substr(0, at)) + ".weight") : std::nullopt;
  };
  if (const auto tensor = module_before(".lora_A")) {
    return {.kind = AdapterKey::Kind::kA, .tensor = *tensor};
  }
  if (const auto tensor = module_before(".lora_B")) {
    return {.kind = AdapterKey::Kind::kB, .tensor = *tensor};
  }
  if (const auto tensor = module_before(".modules_to_save")) {
    return {.kind = AdapterKey::Kind::kSaved, .tensor = *tensor};
  }
  const bool other = key.find(".lora_") != std::string_view::npos ||
                     key.find(".original_module") != std::string_view::npos;
  return {.kind = other ? AdapterKey::Kind::kOther : AdapterKey::Kind::kSaved,
          .tensor = std::string(key) + ".weight"};
}

absl::Status Twice(const std::string& key, const StoredTensor& tensor) {
  return absl::FailedPreconditionError(absl::StrFormat(
      "%s: tensor %s: the adapter has another tensor for the same module; merge one adapter a file",
      tensor.file->string(), key));
}

absl::Status AddTensors(const Tensors& tensors, PeftAdapter& adapter) {
  for (const auto& [key, tensor] : tensors) {
    const AdapterKey known = ReadKey(key);
    if (absl::StrContains(key, "rotary_emb.inv_freq")) {
      continue;  // a table, which every reader computes for itself
    }
    switch (known.kind) {
      case AdapterKey::Kind::kOther:
        return absl::FailedPreconditionError(absl::StrFormat(
            "%s: tensor %s: expected base_model.model.MODULE with lora_A, lora_B or a saved "
            "module's weight; this part of the adapter is not known here",
            tensor.file->string(), key));
      case AdapterKey::Kind::kSaved:
        if (!adapter.saved.emplace(known.tensor, tensor).second) {
          return Twice(key, tensor);
        }
        break;
      case AdapterKey::Kind::kA:
      case AdapterKey::Kind::kB: {
        LoraPair& pair = adapter.pairs[known.tensor];
        StoredTensor& factor = known.kind == AdapterKey::Kind::kA ? pair.a : pair.b;
        if (!factor.name.empty()) {
          return Twice(key, tensor);
        }
        factor = tensor;
        factor.name = key;
        break;
      }
    }
  }
  for (const auto& [name, pair] : adapter.pairs) {
    if (pair.a.name.empty() || pair.b.name.empty()) {
      const StoredTensor& there = pair.a.name.empty() ? pair.b : pair.a;
      return absl::FailedPreconditionError(absl::StrFormat(
          "%s: tensor %s: expected lora_A and lora_B of %s, found only this one; the file is not "
          "complete",
          there.file->string(), there.name, name));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadSmallFile(const fs::path& path) {
  constexpr std::size_t kLargest = std::size_t{64} << 20;
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kLargest) {
    return absl::DataLossError(absl::StrFormat("%s: expected at most %d bytes, found %d",
                                               path.string(), kLargest, file.bytes().size()));
  }
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

absl::Status ReadTokenizer(PeftAdapter& adapter) {
  const fs::path path = adapter.folder / "tokenizer.model";
  if (!IsThere(path)) {
    return absl::OkStatus();
  }
  YANGTUO_ASSIGN_OR_RETURN(adapter.tokenizer_model, ReadSmallFile(path));
  YANGTUO_ASSIGN_OR_RETURN(const Vocabulary vocabulary,
                           Vocabulary::Parse(adapter.tokenizer_model, path.string()));
  YANGTUO_ASSIGN_OR_RETURN(const HfTokenizerFiles files, ReadHfTokenizerFiles(adapter.folder));
  const std::int32_t added =
      files.added_tokens.empty() ? 0 : files.added_tokens.rbegin()->first + 1;
  adapter.tokenizer_size = std::max(vocabulary.size(), added);
  return absl::OkStatus();
}

}  // namespace

std::string PeftAdapter::WeakDigest() const {
  constexpr std::size_t kSampledBytes = 4096;  // a page of each tensor
  Sha256 digest;
  const auto add = [&](const std::string& name, const StoredTensor& tensor) {
    digest.Update(absl::StrFormat("%s %s [%s]\n", name, NameOf(tensor.dtype),
                                  absl::StrJoin(tensor.shape, ",")));
    digest.Update(tensor.data.first(std::min<std::size_t>(tensor.data.size(), kSampledBytes)));
  };
  digest.Update(absl::StrFormat("rank=%d scale=%.17g fan_in_fan_out=%d\n", config.rank,
                                config.scale, config.fan_in_fan_out ? 1 : 0));
  for (const auto& [name, pair] : pairs) {
    add(name, pair.a);
    add(name, pair.b);
  }
  for (const auto& [name, tensor] : saved) {
    add(name, tensor);
  }
  return digest.FinishHex();
}

absl::StatusOr<PeftAdapter> OpenPeftAdapter(const fs::path& folder) {
  PeftAdapter adapter;
  adapter.folder = folder;
  const fs::path config = folder / "adapter_config.json";
  if (!IsThere(config)) {
    return absl::NotFoundError(absl::StrFormat(
        "%s: expected a LoRA adapter with adapter_config.json, found %s", folder.string(),
        !IsThere(folder)                  ? "nothing there"
        : IsThere(folder / "config.json") ? "a whole model"
                                          : "none"));
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(config));
  YANGTUO_ASSIGN_OR_RETURN(adapter.config, ParsePeftConfig(text, config.string()));
  YANGTUO_ASSIGN_OR_RETURN(const Tensors tensors, ReadTensors(folder, adapter));
  YANGTUO_RETURN_IF_ERROR(AddTensors(tensors, adapter));
  YANGTUO_RETURN_IF_ERROR(ReadTokenizer(adapter));
  if (IsThere(folder / "config.json")) {
    YANGTUO_ASSIGN_OR_RETURN(adapter.model_config, ReadLlamaConfig(folder));
  }
  return adapter;
}

}  // namespace yangtuo
