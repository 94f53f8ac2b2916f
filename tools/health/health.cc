#include "tools/health/health.h"

#include <chrono>
#include <ostream>

#include "tools/common/http_get.h"

namespace yangtuo {
namespace {

constexpr Duration kLimit = std::chrono::seconds(2);
constexpr int kHttpOk = 200;

}  // namespace

int RunHealth(const HealthOptions& options, std::ostream& out) {
  const auto answer = HttpGet(options.admin, options.live ? "/livez" : "/readyz", kLimit);
  if (!answer.ok()) {
    out << std::string(answer.status().message()) << '\n';
    return 1;
  }
  out << answer->body;
  return answer->code == kHttpOk ? 0 : 1;
}

}  // namespace yangtuo
