#include "inference_core/model/packed_place.h"

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/sha256.h"
#include "inference_core/model/llama_weights.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// Raised whenever QuickInt4Row or the layout of packed tiles changes.
constexpr int kPackingVersion = 1;

constexpr const char* kExtension = ".packed";

// Packed weights may be kept beside the model, and other programs leave hidden files there.
bool IsOfModel(const fs::path& file) {
  return file.extension() != kExtension && !file.filename().string().starts_with('.');
}

// Name, size and time of every file of the model.
std::string StampsOf(const fs::path& model) {
  std::vector<std::string> stamps;
  const auto add = [&](const fs::path& file) {
    std::error_code failed;
    const std::uintmax_t size = fs::file_size(file, failed);
    const auto time = fs::last_write_time(file, failed).time_since_epoch().count();
    stamps.push_back(absl::StrCat(file.filename().string(), " ", size, " ", time, "\n"));
  };
  std::error_code failed;
  if (fs::is_directory(model, failed)) {
    for (fs::directory_iterator entry(model, failed), end; !failed && entry != end;
         entry.increment(failed)) {
      if (entry->is_regular_file(failed) && IsOfModel(entry->path())) {
        add(entry->path());
      }
    }
  } else {
    add(model);
  }
  std::sort(stamps.begin(), stamps.end());
  std::string all;
  for (const std::string& stamp : stamps) {
    all += stamp;
  }
  return all;
}

// Whether more than a few of the weights are in another type than `type`.
bool IsSearchedFor(const TensorSource& tensors) {
  std::int64_t stored = 0;
  std::int64_t others = 0;
  for (const TensorSpec& tensor : tensors.tensors()) {
    if (tensor.shape.size() == 2) {
      (tensor.dtype == DType::kInt4 ? stored : others) += tensor.rows() * tensor.cols();
    }
  }
  return others > stored;
}

// Weights in the products of these layers, and of the head behind the last one.
std::int64_t WeightsOf(const LlamaConfig& config, std::int64_t first, std::int64_t last) {
  const std::int64_t head = std::int64_t{config.hidden} * config.vocab;
  std::int64_t layer = -head;
  for (const kernels::MatmulShape& shape : MatmulShapes(config)) {
    layer += shape.in * shape.out;
  }
  return layer * (last - first) + (last == config.layers ? head : 0);
}

}  // namespace

std::optional<PackedPlace> PackedPlaceOf(const PackedQuestion& question) {
  const StageOptions& options = question.options;
  if (options.packed_weights.empty() || !options.adapters.empty() ||
      question.type != kernels::MatmulType::kInt4 || !IsSearchedFor(question.tensors)) {
    return std::nullopt;
  }
  if (WeightsOf(question.config, options.first_layer, options.last_layer) / 2 <  // half a byte each
      options.packed_weights_least_bytes) {
    return std::nullopt;
  }
  const std::string identity = absl::StrFormat(
      "packing %d, int4, layers %d to %d, digest %s\n%s", kPackingVersion, options.first_layer,
      options.last_layer, question.digest, StampsOf(options.model));
  const std::string name = fs::weakly_canonical(options.model).filename().string();
  return PackedPlace{
      .file = options.packed_weights / absl::StrFormat("%s.int4.%d-%d%s", name, options.first_layer,
                                                       options.last_layer, kExtension),
      .key = Sha256Hex(identity)};
}

}  // namespace yangtuo
