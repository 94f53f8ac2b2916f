#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"

namespace yangtuo {

// How much each input column of a model's matrices counts, for example the mean square of what is
// multiplied with it on some text. Immutable.
class Importance {
 public:
  // By names of matrices, a weight of 0 or more for each column.
  explicit Importance(std::map<std::string, std::vector<float>> weights)
      : weights_(std::move(weights)) {}

  // A safetensors file with a vector for any of the model's matrices, named as it is
  // ("NAME.weight"); f32, f16 or bf16. NOT_FOUND, DATA_LOSS as the reader says. INVALID_ARGUMENT: a
  // name that the model has not, a length that is not the matrix's number of columns, a weight that
  // is negative or not a finite number.
  static absl::StatusOr<Importance> Read(const std::filesystem::path& file,
                                         const Checkpoint& model);

  // Of a tensor's columns; empty where the file says nothing of it.
  [[nodiscard]] std::span<const float> Of(const std::string& tensor) const;
  [[nodiscard]] std::size_t size() const { return weights_.size(); }

  // As a file that Read takes.
  absl::Status Write(const std::filesystem::path& file) const;

 private:
  std::map<std::string, std::vector<float>> weights_;
};

}  // namespace yangtuo
