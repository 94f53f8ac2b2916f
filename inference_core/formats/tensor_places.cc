#include "inference_core/formats/tensor_places.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "absl/strings/str_format.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {

absl::StatusOr<std::uint64_t> TensorPlaces::Take(std::size_t index, std::uint64_t bytes) {
  if (index >= places_.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("%s has %d tensors and no tensor number %d",
                                                      target_.string(), places_.size(), index));
  }
  Place& place = places_[index];
  if (bytes > place.bytes - place.written || (bytes != 0 && bytes % place.row_bytes != 0)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: tensor %s: expected whole rows of %d bytes, %d bytes in all of which %d are there, "
        "found %d",
        target_.string(), Shown(place.name), place.row_bytes, place.bytes, place.written, bytes));
  }
  const std::uint64_t offset = place.offset + place.written;
  place.written += bytes;
  return offset;
}

absl::Status TensorPlaces::CheckComplete() const {
  for (const Place& place : places_) {
    if (place.written != place.bytes) {
      return absl::FailedPreconditionError(
          absl::StrFormat("%s: tensor %s: %d of %d bytes were written", target_.string(),
                          Shown(place.name), place.written, place.bytes));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSpecs(const std::vector<TensorSpec>& tensors,
                        const std::filesystem::path& target) {
  std::set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) {
    const bool negative = std::any_of(tensor.shape.begin(), tensor.shape.end(),
                                      [](std::int64_t size) { return size < 0; });
    if (tensor.name.empty() || !IsUtf8(tensor.name) || negative ||
        !RowFits(tensor.dtype, tensor.cols())) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s of shape %s cannot be kept as %s", target.string(),
                          Shown(tensor.name), Shown(tensor.shape), NameOf(tensor.dtype)));
    }
    if (!names.insert(tensor.name).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: tensor %s is there twice", target.string(), Shown(tensor.name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
