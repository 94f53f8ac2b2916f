#include "tools/quantize/importance.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/row_values.h"
#include "inference_core/checkpoint/tensor_source.h"
#include "inference_core/formats/safetensors_writer.h"
#include "inference_core/formats/tensor_files.h"

namespace yangtuo {
namespace {

absl::Status Check(const std::string& where, const TensorSpec& matrix,
                   const std::vector<std::int64_t>& shape, std::span<const float> weights) {
  if (shape.size() != 1 || matrix.shape.size() != 2 || shape[0] != matrix.cols()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected a weight for each of %d columns of a matrix, found %d values "
                        "in %d dimensions",
                        where, matrix.cols(), weights.size(), shape.size()));
  }
  const auto bad = std::find_if(weights.begin(), weights.end(), [](float weight) {
    return !std::isfinite(weight) || weight < 0.0F;
  });
  if (bad != weights.end()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s: weight %d is %g, expected 0 or more",
                                                      where, bad - weights.begin(), *bad));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Importance> Importance::Read(const std::filesystem::path& file,
                                            const Checkpoint& model) {
  YANGTUO_ASSIGN_OR_RETURN(const TensorFiles files, TensorFiles::OpenFile(file));
  std::map<std::string, std::vector<float>> read;
  for (const std::string& name : files.Names()) {
    const std::string where = absl::StrFormat("%s: %s", file.string(), name);
    const absl::StatusOr<std::size_t> index = FindTensor(*model.tensors, name);
    if (!index.ok()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: the model has no such tensor (%s)", where, std::string(index.status().message())));
    }
    YANGTUO_ASSIGN_OR_RETURN(const StoredTensor stored, files.Find(name));
    std::vector<std::byte> bytes(static_cast<std::size_t>(stored.rows() * stored.bytes_per_row()));
    CopyRows(stored, 0, stored.rows(), bytes);
    std::vector<float> weights(static_cast<std::size_t>(stored.rows() * stored.cols()));
    WidenRow(stored.dtype, bytes, weights);
    YANGTUO_RETURN_IF_ERROR(Check(where, model.tensors->tensors()[*index], stored.shape, weights));
    read.emplace(name, std::move(weights));
  }
  return Importance(std::move(read));
}

absl::Status Importance::Write(const std::filesystem::path& file) const {
  std::vector<TensorSpec> specs;
  for (const auto& [name, weights] : weights_) {
    specs.push_back(
        {.name = name, .dtype = DType::kF32, .shape = {static_cast<std::int64_t>(weights.size())}});
  }
  YANGTUO_ASSIGN_OR_RETURN(const auto writer, NewSafetensorsWriter(file, specs, {}));
  std::size_t index = 0;
  for (const auto& [name, weights] : weights_) {
    YANGTUO_RETURN_IF_ERROR(writer->Append(index++, std::as_bytes(std::span(weights))));
  }
  return writer->Finish();
}

std::span<const float> Importance::Of(const std::string& tensor) const {
  const auto found = weights_.find(tensor);
  return found == weights_.end() ? std::span<const float>() : found->second;
}

}  // namespace yangtuo
