#include "inference_core/checkpoint/open_hf.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/checkpoint/stored_tensors.h"
#include "inference_core/formats/safetensors_writer.h"
#include "inference_core/formats/tensor_files.h"

namespace yangtuo {
namespace {

absl::Status WrongShape(const StoredTensor& stored, const std::string& name,
                        const std::vector<std::int64_t>& expected) {
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s: tensor %s: expected shape [%s] by config.json, found [%s]", stored.file->string(), name,
      absl::StrJoin(expected, ", "), absl::StrJoin(stored.shape, ", ")));
}

// The type of a matrix that lies in the file in parts of its rows (safetensors_writer.h).
std::optional<DType> TypeInParts(const StoredTensor& first) {
  return first.unsupported_type == "I8"   ? std::optional(DType::kInt8)
         : first.unsupported_type == "U8" ? std::optional(DType::kInt4)
                                          : std::nullopt;
}

absl::StatusOr<StoredPlace> PlaceOfParts(TensorSpec spec, const TensorFiles& files) {
  StoredPlace place{.spec = std::move(spec), .bands = {}};
  StoredBand band{.rows = place.spec.rows(), .parts = {}};
  for (const TensorPart& part : SafetensorsPartsOf(place.spec)) {
    const StoredTensor* const stored = files.FindStored(part.name);
    if (stored == nullptr) {
      return absl::NotFoundError(absl::StrFormat("tensor %s of type %s lacks its part %s",
                                                 place.spec.name, NameOf(place.spec.dtype),
                                                 part.name));
    }
    const std::string type = !stored->unsupported_type.empty() ? stored->unsupported_type
                             : stored->dtype == DType::kF32    ? "F32"
                                                               : "a 16-bit type";
    if (stored->shape != part.shape || type != part.type) {
      return WrongShape(*stored, part.name, part.shape);
    }
    band.parts.push_back(
        {.bytes = stored->data,
         .row_bytes = part.row_bytes,
         .origin = absl::StrFormat("%s: tensor %s", stored->file->string(), part.name)});
  }
  place.bands.push_back(std::move(band));
  return place;
}

absl::StatusOr<StoredPlace> PlaceOf(const LlamaTensor& tensor, const TensorFiles& files) {
  const std::string name = HfName(tensor);
  if (const StoredTensor* const first = files.FindStored(name);
      first != nullptr && tensor.shape.size() == 2) {
    if (const std::optional<DType> type = TypeInParts(*first)) {
      return PlaceOfParts({.name = name, .dtype = *type, .shape = tensor.shape}, files);
    }
  }
  YANGTUO_ASSIGN_OR_RETURN(const StoredTensor stored, files.Find(name));
  if (stored.shape != tensor.shape) {
    return WrongShape(stored, name, tensor.shape);
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
