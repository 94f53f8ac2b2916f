#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/tensor/tensor_spec.h"

namespace yangtuo {

// Where the tensors of a file go, and how much of each is there already.
class TensorPlaces {
 public:
  struct Place {
    std::string name;
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
    std::uint64_t row_bytes = 0;
    std::uint64_t written = 0;
  };

  // `target` is for messages.
  explicit TensorPlaces(std::filesystem::path target) : target_(std::move(target)) {}

  void Add(Place place) { places_.push_back(std::move(place)); }
  // The file offset of the next `bytes` of tensor `index`, which then count as written.
  // INVALID_ARGUMENT for parts of rows and for more than the tensor has.
  absl::StatusOr<std::uint64_t> Take(std::size_t index, std::uint64_t bytes);
  // FAILED_PRECONDITION names a tensor that is not all there.
  [[nodiscard]] absl::Status CheckComplete() const;

  [[nodiscard]] const std::vector<Place>& all() const { return places_; }

 private:
  std::filesystem::path target_;
  std::vector<Place> places_;
};

// INVALID_ARGUMENT for what no file can hold: a name twice, empty or not UTF-8, a negative size, a
// row that does not fit its type.
absl::Status CheckSpecs(const std::vector<TensorSpec>& tensors,
                        const std::filesystem::path& target);

[[nodiscard]] constexpr std::uint64_t RoundUp(std::uint64_t offset, std::uint64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

}  // namespace yangtuo
