#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace yangtuo {

// The one of `names` that takes the fewest edits (insert, delete or replace a byte) to become
// `name`, for "did you mean". Empty when there is none. Only the first 256 bytes count.
[[nodiscard]] std::string NearestName(std::string_view name, const std::vector<std::string>& names);

}  // namespace yangtuo
