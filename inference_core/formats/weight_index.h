#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "absl/status/statusor.h"

namespace yangtuo {

// What Hugging Face's *.index.json says of a model in several files: tensor name to the name of the
// file in the same folder that holds it.
using WeightMap = std::map<std::string, std::string>;

// DATA_LOSS for a file that is not such an index or names files outside its folder.
absl::StatusOr<WeightMap> ReadWeightIndex(const std::filesystem::path& index);

// `total_bytes`: of all tensors, which readers show but do not need.
[[nodiscard]] std::string EncodeWeightIndex(const WeightMap& weight_map, std::uint64_t total_bytes);

}  // namespace yangtuo
