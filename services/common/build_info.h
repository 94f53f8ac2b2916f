#pragma once

#include <string_view>

namespace yangtuo {

// What was built, for --version and the metric yangtuo_build_info.
struct BuildInfo {
  std::string_view version;     // "0.1.0"
  std::string_view compiler;    // "gcc 12.2.0"
  std::string_view build_type;  // "Release"
};

[[nodiscard]] BuildInfo ThisBuild();

}  // namespace yangtuo
