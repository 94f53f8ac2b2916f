#include "inference_core/formats/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <list>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/nearest_name.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view kSingleName = "model.safetensors";
constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::size_t kLargestIndex = std::size_t{64} << 20;

struct ModelFile {
  fs::path path;
  MappedFile mapping;
};

// Tensor name to the name of the file that holds it.
using WeightMap = std::map<std::string, std::string>;

absl::Status IndexFault(const fs::path& index, const std::string& what) {
  return absl::DataLossError(absl::StrFormat("%s: %s", index.string(), what));
}

absl::StatusOr<WeightMap> ReadIndex(const fs::path& index) {
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(index));
  if (file.bytes().size() > kLargestIndex) {
    return IndexFault(index, absl::StrFormat("%d bytes are more than any index has (%d)",
                                             file.bytes().size(), kLargestIndex));
  }
  const absl::StatusOr<json> parsed =
      ParseStrictJson({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
  if (!parsed.ok()) {
    return IndexFault(index, std::string(parsed.status().message()));
  }
  const auto entries = parsed->find("weight_map");
  if (entries == parsed->end() || !entries->is_object() || entries->empty()) {
    return IndexFault(index, "expected \"weight_map\" to map tensor names to file names");
  }
  WeightMap weight_map;
  for (const auto& item : entries->items()) {
    // Only plain names: an index must not reach out of its folder.
    const std::string name = item.value().is_string() ? item.value().get<std::string>() : "";
    if (name.empty() || name == "." || name == ".." ||
        name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return IndexFault(index, absl::StrFormat("tensor %s: expected the name of a file in the same "
                                               "folder, found %s",
                                               Shown(item.key()), Shown(item.value())));
    }
    weight_map.emplace(item.key(), name);
  }
  return weight_map;
}

// All *.safetensors of a folder but adapters, in the order of their names.
absl::StatusOr<std::vector<fs::path>> ListFiles(const fs::path& folder) {
  std::vector<fs::path> files;
  bool has_pytorch = false;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    has_pytorch = has_pytorch || (name.starts_with("pytorch_model") && name.ends_with(".bin"));
    if (name.ends_with(".safetensors") && !name.starts_with("adapter_")) {
      files.push_back(it->path());
    }
  }
  if (error) {
    return absl::NotFoundError(
        absl::StrFormat("cannot read the model folder %s: %s", folder.string(), error.message()));
  }
  if (files.empty()) {
    return absl::NotFoundError(absl::StrFormat(
        "%s: expected %s, %s or other *.safetensors, found none%s", folder.string(), kSingleName,
        kIndexName,
        has_pytorch ? "; convert its pytorch_model*.bin to safetensors first"
                    : "; give the folder that holds a model's config.json and weights"));
  }
  std::sort(files.begin(), files.end());
  return files;
}

bool Exists(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

}  // namespace

struct TensorFiles::State {
  std::list<ModelFile> files;  // tensors point at the paths: a list never moves them
  std::map<std::string, StoredTensor> tensors;

  // Maps a file and lists its tensors.
  absl::StatusOr<std::map<std::string, StoredTensor>> AddFile(const fs::path& path) {
    YANGTUO_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
    files.push_back({.path = path, .mapping = std::move(mapping)});
    return ParseSafetensors(files.back().mapping.bytes(), files.back().path);
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
    YANGTUO_ASSIGN_OR_RETURN(const WeightMap weight_map, ReadIndex(index));
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
        return IndexFault(index, absl::StrFormat("tensor %s is not in %s, which should hold it",
                                                 Shown(name), shard));
      }
      tensors.insert(std::move(found));
    }
    return absl::OkStatus();
  }
};

TensorFiles::TensorFiles(std::shared_ptr<const State> state) : state_(std::move(state)) {}

absl::StatusOr<TensorFiles> TensorFiles::Open(const fs::path& folder) {
  const auto state = std::make_shared<State>();
  if (Exists(folder / kSingleName)) {
    YANGTUO_RETURN_IF_ERROR(state->AddAll({folder / kSingleName}));
  } else if (Exists(folder / kIndexName)) {
    YANGTUO_RETURN_IF_ERROR(state->AddIndexed(folder / kIndexName));
  } else {
    YANGTUO_ASSIGN_OR_RETURN(const std::vector<fs::path> paths, ListFiles(folder));
    YANGTUO_RETURN_IF_ERROR(state->AddAll(paths));
  }
  return TensorFiles(state);
}

absl::StatusOr<StoredTensor> TensorFiles::Find(const std::string& name) const {
  const auto found = state_->tensors.find(name);
  if (found == state_->tensors.end()) {
    return absl::NotFoundError(absl::StrFormat("%s has no tensor %s; the nearest name is %s",
                                               state_->files.front().path.parent_path().string(),
                                               Shown(name), Shown(NearestName(name, Names()))));
  }
  const StoredTensor& tensor = found->second;
  if (!tensor.unsupported_type.empty()) {
    return absl::UnimplementedError(absl::StrFormat(
        "%s: tensor %s: expected element type F32, F16 or BF16, found %s; convert the model",
        tensor.file->string(), Shown(name), Shown(tensor.unsupported_type)));
  }
  return tensor;
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
    const std::span<const std::byte> bytes = file->mapping.bytes();
    std::uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof(header));
    const std::uint64_t size = bytes.size();
    add(bytes.first(sizeof(header) + header));
    add(std::as_bytes(std::span(&size, 1)));
  }
  return digest.FinishHex();
}

}  // namespace yangtuo
