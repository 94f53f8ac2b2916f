#include "inference_core/checkpoint/open_hf.h"

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/stored_tensors.h"
#include "inference_core/formats/tensor_files.h"

namespace yangtuo {
namespace {

absl::StatusOr<StoredPlace> PlaceOf(const LlamaTensor& tensor, const TensorFiles& files) {
  const std::string name = HfName(tensor);
  YANGTUO_ASSIGN_OR_RETURN(const StoredTensor stored, files.Find(name));
  if (stored.shape != tensor.shape) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: tensor %s: expected shape [%s] by config.json, found [%s]", stored.file->string(),
        name, absl::StrJoin(tensor.shape, ", "), absl::StrJoin(stored.shape, ", ")));
  }
  StoredPlace place{.spec = {.name = name, .dtype = stored.dtype, .shape = stored.shape},
                    .bands = {}};
  place.bands.push_back({.rows = place.spec.rows(), .parts = {RowsOf(stored)}});
  return place;
}

}  // namespace

absl::StatusOr<Checkpoint> OpenHfFolder(const std::filesystem::path& folder,
                                        CheckpointFormat format) {
  Checkpoint checkpoint;
  checkpoint.path = folder;
  checkpoint.format = format;
  YANGTUO_ASSIGN_OR_RETURN(checkpoint.config, ReadLlamaConfig(folder));
  YANGTUO_ASSIGN_OR_RETURN(TensorFiles opened, format == CheckpointFormat::kTorchBin
                                                   ? TensorFiles::OpenTorch(folder)
                                                   : TensorFiles::Open(folder));
  const auto files = std::make_shared<const TensorFiles>(std::move(opened));
  std::vector<StoredPlace> places;
  for (const LlamaTensor& tensor : ListLlamaTensors(checkpoint.config)) {
    YANGTUO_ASSIGN_OR_RETURN(StoredPlace place, PlaceOf(tensor, *files));
    places.push_back(std::move(place));
  }
  checkpoint.tensors = MakeStoredSource(std::move(places), files);
  checkpoint.digest = files->WeakDigest(checkpoint.config.Canonical());
  return checkpoint;
}

}  // namespace yangtuo
