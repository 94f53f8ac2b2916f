#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace yangtuo {

// A zip archive of stored files, as old and plain as the format allows: no zip64, no data
// descriptors, no padding. `comment` follows the end record.
[[nodiscard]] std::string BuildZip(const std::vector<std::pair<std::string, std::string>>& files,
                                   std::string_view comment = {});

}  // namespace yangtuo
