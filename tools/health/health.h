#pragma once

#include <iosfwd>
#include <string>

namespace yangtuo {

struct HealthOptions {
  std::string admin = "127.0.0.1:9400";  // admin address of any service
  bool live = false;                     // /livez in place of /readyz
};

// `yangtuo health`: asks one service whether it is ready, or alive, and tells `out`. Returns the
// exit code: 0 when it is, 1 when not or when nothing answers within two seconds. For health checks
// of container engines, whose images have no other program to ask with.
int RunHealth(const HealthOptions& options, std::ostream& out);

}  // namespace yangtuo
