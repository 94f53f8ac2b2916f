#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace yangtuo {

// The one of `names` that takes the fewest edits (insert, delete or replace a byte) to become
// `name`, for "did you mean". Empty when there is none. Only the first 256 bytes count.
[[nodiscard]] std::string NearestTensorName(std::string_view name,
                                            const std::vector<std::string>& names);

// How a message that a tensor is not among `names` goes on: "; the nearest name is NAME", or that
// there are none at all.
[[nodiscard]] std::string NearestTensorHint(std::string_view name,
                                            const std::vector<std::string>& names);

}  // namespace yangtuo
