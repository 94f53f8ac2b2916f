#include "inference_core/checkpoint/tensor_source.h"

#include "absl/strings/str_format.h"
#include "inference_core/formats/nearest_name.h"

namespace yangtuo {

absl::StatusOr<std::size_t> FindTensor(const TensorSource& source, std::string_view name) {
  const std::vector<TensorSpec>& tensors = source.tensors();
  std::vector<std::string> names;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name) {
      return i;
    }
    names.push_back(tensors[i].name);
  }
  return absl::NotFoundError(
      absl::StrFormat("the model has no tensor %s%s", name, NearestTensorHint(name, names)));
}

}  // namespace yangtuo
