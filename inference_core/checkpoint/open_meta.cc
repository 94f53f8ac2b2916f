#include "inference_core/checkpoint/open_meta.h"

#include <memory>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/hf_files.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/stored_tensors.h"
#include "inference_core/formats/tensor_files.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

constexpr int kMostShards = 64;

struct MetaShards {
  fs::path folder;
  std::vector<TensorFiles> files;
};

absl::StatusOr<MetaShards> OpenShards(const fs::path& folder) {
  MetaShards shards{.folder = folder, .files = {}};
  std::error_code error;
  for (int i = 0; i < kMostShards; ++i) {
    const fs::path path = folder / absl::StrFormat("consolidated.%02d.pth", i);
    if (!fs::exists(path, error)) {
      break;
    }
    YANGTUO_ASSIGN_OR_RETURN(TensorFiles file, TensorFiles::OpenFile(path));
    shards.files.push_back(std::move(file));
  }
  if (shards.files.empty()) {
    return absl::NotFoundError(
        absl::StrFormat("%s: expected consolidated.00.pth, found none", folder.string()));
  }
  const fs::path after = folder / absl::StrFormat("consolidated.%02d.pth", shards.files.size() + 1);
  if (fs::exists(after, error)) {
    return absl::NotFoundError(
        absl::StrFormat("%s is there, but the shard before it is not; fetch it", after.string()));
  }
  return shards;
}

absl::StatusOr<std::vector<StoredTensor>> FindParts(const MetaShards& shards,
                                                    const std::string& name) {
  std::vector<StoredTensor> parts;
  for (const TensorFiles& file : shards.files) {
    YANGTUO_ASSIGN_OR_RETURN(StoredTensor part, file.Find(name));
    if (!parts.empty() && (part.dtype != parts[0].dtype ||
                           part.shape.size() != parts[0].shape.size() || part.shape.empty())) {
      return absl::DataLossError(absl::StrFormat(
          "%s: tensor %s: expected the type and rank that the first shard has (%s, %d), found %s, "
          "%d",
          part.file->string(), name, NameOf(parts[0].dtype), parts[0].shape.size(),
          NameOf(part.dtype), part.shape.size()));
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

// The shape of all parts together.
std::vector<std::int64_t> JoinedShape(const std::vector<StoredTensor>& parts, MetaSplit split) {
  std::vector<std::int64_t> shape = parts[0].shape;
  if (split != MetaSplit::kCopies && shape.size() == 2) {
    const std::size_t axis = split == MetaSplit::kRows ? 0 : 1;
    for (std::size_t i = 1; i < parts.size(); ++i) {
      shape[axis] += parts[i].shape[axis];
    }
  }
  return shape;
}

bool OtherAxisAgrees(const std::vector<StoredTensor>& parts, MetaSplit split) {
  for (const StoredTensor& part : parts) {
    if (split == MetaSplit::kCopies
            ? part.shape != parts[0].shape
            : part.shape.size() == 2 && part.shape[split == MetaSplit::kRows ? 1 : 0] !=
                                            parts[0].shape[split == MetaSplit::kRows ? 1 : 0]) {
      return false;
    }
  }
  return true;
}

absl::StatusOr<StoredPlace> PlaceOf(const LlamaTensor& tensor, const MetaShards& shards,
                                    const LlamaConfig& config) {
  const std::string name = MetaName(tensor);
  YANGTUO_ASSIGN_OR_RETURN(std::vector<StoredTensor> parts, FindParts(shards, name));
  const MetaSplit split = MetaSplitOf(tensor.part);
  const std::vector<std::int64_t> shape = JoinedShape(parts, split);
  if (shape != tensor.shape || !OtherAxisAgrees(parts, split)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: tensor %s: expected shape [%s] by params.json from %d shards together, found [%s]",
        parts[0].file->string(), name, absl::StrJoin(tensor.shape, ", "), parts.size(),
        absl::StrJoin(shape, ", ")));
  }
  StoredPlace place{.spec = {.name = HfName(tensor), .dtype = parts[0].dtype, .shape = shape},
                    .bands = {}};
  if (IsRotary(tensor.part)) {
    place.interleaved_head_dim = config.head_dim;
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0 && split == MetaSplit::kCopies) {
      break;
    }
    if (i == 0 || split == MetaSplit::kRows) {
      place.bands.push_back({.rows = parts[i].rows(), .parts = {}});
    }
    place.bands.back().parts.push_back(RowsOf(parts[i]));
  }
  return place;
}

absl::StatusOr<std::int64_t> SizeOfTensor(const MetaShards& shards, const LlamaTensor& tensor) {
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<StoredTensor> parts,
                           FindParts(shards, MetaName(tensor)));
  const std::vector<std::int64_t> shape = JoinedShape(parts, MetaSplitOf(tensor.part));
  return shape.empty() ? 0 : shape[0];
}

absl::StatusOr<LlamaConfig> ReadConfig(const MetaShards& shards) {
  std::error_code error;
  if (fs::exists(shards.folder / "config.json", error)) {
    return ReadLlamaConfig(shards.folder);
  }
  MetaSizes sizes;
  YANGTUO_ASSIGN_OR_RETURN(
      sizes.vocab, SizeOfTensor(shards, {.part = LlamaPart::kHead, .layer = 0, .shape = {}}));
  YANGTUO_ASSIGN_OR_RETURN(
      sizes.ffn, SizeOfTensor(shards, {.part = LlamaPart::kGate, .layer = 0, .shape = {}}));
  const fs::path path = shards.folder / "params.json";
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ParseMetaParams({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
                         path.string(), sizes);
}

}  // namespace

MetaSplit MetaSplitOf(LlamaPart part) {
  switch (part) {
    case LlamaPart::kEmbedding:
    case LlamaPart::kAttentionOut:
    case LlamaPart::kDown:
      return MetaSplit::kColumns;
    case LlamaPart::kAttentionNorm:
    case LlamaPart::kFfnNorm:
    case LlamaPart::kNorm:
      return MetaSplit::kCopies;
    default:
      return MetaSplit::kRows;
  }
}

absl::StatusOr<Checkpoint> OpenMetaFolder(const fs::path& folder) {
  Checkpoint checkpoint;
  checkpoint.path = folder;
  checkpoint.format = CheckpointFormat::kMeta;
  YANGTUO_ASSIGN_OR_RETURN(MetaShards opened, OpenShards(folder));
  const auto shards = std::make_shared<const MetaShards>(std::move(opened));
  YANGTUO_ASSIGN_OR_RETURN(checkpoint.config, ReadConfig(*shards));
  std::vector<StoredPlace> places;
  for (const LlamaTensor& tensor : ListLlamaTensors(checkpoint.config)) {
    YANGTUO_ASSIGN_OR_RETURN(StoredPlace place, PlaceOf(tensor, *shards, checkpoint.config));
    places.push_back(std::move(place));
  }
  checkpoint.tensors = MakeStoredSource(std::move(places), shards);
  Sha256 digest;
  for (const TensorFiles& file : shards->files) {
    digest.Update(file.WeakDigest(checkpoint.config.Canonical()));
  }
  checkpoint.digest = digest.FinishHex();
  return checkpoint;
}

}  // namespace yangtuo
