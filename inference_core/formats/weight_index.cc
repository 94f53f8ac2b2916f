#include "inference_core/formats/weight_index.h"

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::size_t kLargestIndex = std::size_t{64} << 20;

absl::Status IndexFault(const fs::path& index, const std::string& what) {
  return absl::DataLossError(absl::StrFormat("%s: %s", index.string(), what));
}

}  // namespace

absl::StatusOr<WeightMap> ReadWeightIndex(const fs::path& index) {
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(index));
  if (file.bytes().size() > kLargestIndex) {
    return IndexFault(index, absl::StrFormat("%d bytes are more than any index has (%d)",
                                             file.bytes().size(), kLargestIndex));
  }
  const absl::StatusOr<json> parsed =
      ParseStrictJson({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
  if (!parsed.ok()) {
    return IndexFault(index, std::string(parsed.status().message()));
  }
  const auto entries = parsed->find("weight_map");
  if (entries == parsed->end() || !entries->is_object() || entries->empty()) {
    return IndexFault(index, "expected \"weight_map\" to map tensor names to file names");
  }
  WeightMap weight_map;
  for (const auto& item : entries->items()) {
    // Only plain names: an index must not reach out of its folder.
    const std::string name = item.value().is_string() ? item.value().get<std::string>() : "";
    if (name.empty() || name == "." || name == ".." ||
        name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      return IndexFault(index, absl::StrFormat("tensor %s: expected the name of a file in the same "
                                               "folder, found %s",
                                               Shown(item.key()), Shown(item.value())));
    }
    weight_map.emplace(item.key(), name);
  }
  return weight_map;
}

std::string EncodeWeightIndex(const WeightMap& weight_map, std::uint64_t total_bytes) {
  const json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  return index.dump(2) + "\n";
}

}  // namespace yangtuo
