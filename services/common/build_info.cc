#include "services/common/build_info.h"

namespace yangtuo {

BuildInfo ThisBuild() {
#if defined(__clang__)
  constexpr std::string_view compiler = "clang " __clang_version__;
#else
  constexpr std::string_view compiler = "gcc " __VERSION__;
#endif
  return {.version = YANGTUO_VERSION, .compiler = compiler, .build_type = YANGTUO_BUILD_TYPE};
}

}  // namespace yangtuo
