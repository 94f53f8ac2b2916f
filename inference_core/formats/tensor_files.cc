#include "inference_core/formats/tensor_files.h"

#include <algorithm>
#include <cstdint>
#include <list>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/nearest_name.h"
#include "inference_core/formats/safetensors.h"
#include "inference_core/formats/strict_json.h"
#include "inference_core/formats/torch_checkpoint.h"
#include "inference_core/formats/weight_index.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// How a folder spells the files of one kind.
struct Layout {
  std::string_view single;
  std::string_view index;
  std::string_view prefix;  // of other files that count
  std::string_view suffix;
};

constexpr Layout kSafetensors = {.single = "model.safetensors",
                                 .index = "model.safetensors.index.json",
                                 .prefix = "",
                                 .suffix = ".safetensors"};
constexpr Layout kTorch = {.single = "pytorch_model.bin",
                           .index = "pytorch_model.bin.index.json",
                           .prefix = "pytorch_model",
                           .suffix = ".bin"};

struct ModelFile {
  fs::path path;
  MappedFile mapping;
  std::span<const std::byte> header;
};

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

// By its first bytes: "PK" of a zip archive, or 0x80 of the pickle that older ones are. Read as the
// length of a safetensors header, which has '{' behind its 8 bytes, both are rare, so a file that
// can be one is taken for it.
bool IsTorch(std::span<const std::byte> bytes, const fs::path& path) {
  if (bytes.size() > 8 && bytes[8] == std::byte{'{'}) {
    return false;
  }
  const bool marked =
      bytes.size() >= 2 && ((bytes[0] == std::byte{'P'} && bytes[1] == std::byte{'K'}) ||
                            (bytes[0] == std::byte{0x80} && bytes[1] <= std::byte{5}));
  return marked || path.extension() != ".safetensors";
}

// All files of a folder that `layout` lets count, in the order of their names.
absl::StatusOr<std::vector<fs::path>> ListFiles(const fs::path& folder, const Layout& layout) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(layout.prefix) && name.ends_with(layout.suffix) &&
        !name.starts_with("adapter_") && !name.starts_with(".")) {
      files.push_back(it->path());
    }
  }
  if (error) {
    return absl::NotFoundError(
        absl::StrFormat("cannot read the model folder %s: %s", folder.string(), error.message()));
  }
  if (files.empty()) {
    return absl::NotFoundError(absl::StrFormat(
        "%s: expected %s, %s or other %s*%s, found none; give the folder that holds a model's "
        "config.json and weights",
        folder.string(), layout.single, layout.index, layout.prefix, layout.suffix));
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

struct TensorFiles::State {
  std::list<ModelFile> files;  // tensors point at the paths: a list never moves them
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;

  // Maps a file and lists its tensors.
  absl::StatusOr<std::map<std::string, StoredTensor>> AddFile(const fs::path& path) {
    YANGTUO_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
    files.push_back({.path = path, .mapping = std::move(mapping), .header = {}});
    ModelFile& file = files.back();
    if (IsTorch(file.mapping.bytes(), path)) {
      YANGTUO_ASSIGN_OR_RETURN(TorchContents contents,
                               ParseTorchCheckpoint(file.mapping.bytes(), file.path));
      file.header = contents.header;
      return std::move(contents.tensors);
    }
    YANGTUO_ASSIGN_OR_RETURN(SafetensorsContents contents,
                             ReadSafetensors(file.mapping.bytes(), file.path));
    file.header = contents.header;
    metadata.merge(contents.metadata);
    return std::move(contents.tensors);
  }

  absl::Status AddAll(const std::vector<fs::path>& paths) {
    for (const fs::path& path : paths) {
      YANGTUO_ASSIGN_OR_RETURN(auto found, AddFile(path));
      for (auto& [name, tensor] : found) {
        const auto [place, inserted] = tensors.try_emplace(name, std::move(tensor));
        if (!inserted) {
          return absl::DataLossError(absl::StrFormat(
              "tensor %s is in both %s and %s; remove the file that does not belong to the model",
              Shown(name), place->second.file->string(), path.string()));
        }
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddIndexed(const fs::path& index) {
    YANGTUO_ASSIGN_OR_RETURN(const WeightMap weight_map, ReadWeightIndex(index));
    std::map<std::string, std::map<std::string, StoredTensor>> shards;
    for (const auto& [name, shard] : weight_map) {
      if (!shards.contains(shard)) {
        const fs::path path = index.parent_path() / shard;
        if (!Exists(path)) {
          return absl::NotFoundError(
              absl::StrFormat("%s names %s for tensor %s, but that file is not there; fetch it",
                              index.string(), shard, Shown(name)));
        }
        YANGTUO_ASSIGN_OR_RETURN(shards[shard], AddFile(path));
      }
      auto found = shards[shard].extract(name);
      if (found.empty()) {
        return absl::DataLossError(
            absl::StrFormat("%s: tensor %s is not in %s, which should hold it", index.string(),
                            Shown(name), shard));
      }
      tensors.insert(std::move(found));
    }
    return absl::OkStatus();
  }

  absl::Status AddFolder(const fs::path& folder, const Layout& layout) {
    if (Exists(folder / layout.single)) {
      return AddAll({folder / layout.single});
    }
    if (Exists(folder / layout.index)) {
      return AddIndexed(folder / layout.index);
    }
    YANGTUO_ASSIGN_OR_RETURN(const std::vector<fs::path> paths, ListFiles(folder, layout));
    return AddAll(paths);
  }
};

TensorFiles::TensorFiles(std::shared_ptr<const State> state) : state_(std::move(state)) {}

absl::StatusOr<TensorFiles> TensorFiles::Open(const fs::path& folder) {
  const auto state = std::make_shared<State>();
  YANGTUO_RETURN_IF_ERROR(state->AddFolder(folder, kSafetensors));
  return TensorFiles(state);
}

absl::StatusOr<TensorFiles> TensorFiles::OpenTorch(const fs::path& folder) {
  const auto state = std::make_shared<State>();
  YANGTUO_RETURN_IF_ERROR(state->AddFolder(folder, kTorch));
  return TensorFiles(state);
}

absl::StatusOr<TensorFiles> TensorFiles::OpenFile(const fs::path& file) {
  const auto state = std::make_shared<State>();
  YANGTUO_RETURN_IF_ERROR(state->AddAll({file}));
  return TensorFiles(state);
}

absl::StatusOr<StoredTensor> TensorFiles::Find(const std::string& name) const {
  const auto found = state_->tensors.find(name);
  if (found == state_->tensors.end()) {
    return absl::NotFoundError(absl::StrFormat("%s has no tensor %s%s",
                                               state_->files.front().path.parent_path().string(),
                                               Shown(name), NearestTensorHint(name, Names())));
  }
  const StoredTensor& tensor = found->second;
  if (!tensor.unsupported_type.empty()) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: tensor %s: expected element type F32, F16 or BF16, found %s; convert the model",
        tensor.file->string(), Shown(name), Shown(tensor.unsupported_type)));
  }
  return tensor;
}

const StoredTensor* TensorFiles::FindStored(const std::string& name) const {
  const auto found = state_->tensors.find(name);
  return found == state_->tensors.end() ? nullptr : &found->second;
}

bool TensorFiles::Has(const std::string& name) const { return state_->tensors.contains(name); }

std::vector<std::string> TensorFiles::Names() const {
  std::vector<std::string> names;
  names.reserve(state_->tensors.size());
  for (const auto& [name, tensor] : state_->tensors) {
    names.push_back(name);
  }
  return names;
}

std::vector<fs::path> TensorFiles::Files() const {
  std::vector<fs::path> paths;
  for (const ModelFile& file : state_->files) {
    paths.push_back(file.path);
  }
  return paths;
}

const std::map<std::string, std::string>& TensorFiles::metadata() const { return state_->metadata; }

std::string TensorFiles::WeakDigest(std::string_view canonical_config) const {
  Sha256 digest;
  const auto add = [&digest](std::span<const std::byte> part) {
    // The length first, so that moving a byte from one part to the next changes the digest.
    const std::uint64_t size = part.size();
    digest.Update(std::as_bytes(std::span(&size, 1)));
    digest.Update(part);
  };
  add(std::as_bytes(std::span(canonical_config)));
  std::map<std::string, const ModelFile*> by_name;
  for (const ModelFile& file : state_->files) {
    by_name.emplace(file.path.filename().string(), &file);
  }
  for (const auto& [name, file] : by_name) {
    const std::uint64_t size = file->mapping.bytes().size();
    add(file->header);
    add(std::as_bytes(std::span(&size, 1)));
  }
  return digest.FinishHex();
}

}  // namespace yangtuo
