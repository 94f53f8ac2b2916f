#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace yangtuo {

// A report as text, with a line end. Names of files and what stands in files may be in any
// encoding: what is not UTF-8 is replaced.
template <typename Json>
[[nodiscard]] std::string JsonText(const Json& json) {
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace yangtuo
