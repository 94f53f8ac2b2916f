#include "inference_core/formats/nearest_name.h"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

constexpr std::size_t kBytes = 256;

// Levenshtein distance, one row of the table at a time.
std::size_t Edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string NearestTensorName(std::string_view name, const std::vector<std::string>& names) {
  const std::string* nearest = nullptr;
  std::size_t fewest = std::numeric_limits<std::size_t>::max();
  for (const std::string& candidate : names) {
    const std::size_t edits =
        Edits(name.substr(0, kBytes), std::string_view(candidate).substr(0, kBytes));
    if (edits < fewest) {
      fewest = edits;
      nearest = &candidate;
    }
  }
  return nearest == nullptr ? "" : *nearest;
}

std::string NearestTensorHint(std::string_view name, const std::vector<std::string>& names) {
  return names.empty()
             ? "; it has no tensors at all"
             : absl::StrCat("; the nearest name is ", Shown(NearestTensorName(name, names)));
}

}  // namespace yangtuo
