#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"

namespace yangtuo {

// The plain-HTTP port for probes and monitoring: GET or HEAD of
//   /metrics  what `Sources::metrics` returns, Prometheus text format
//   /livez    200 while the process can answer at all
//   /readyz   200, or 503 with one line for each entry of `Sources::not_ready`
// One thread of its own; connections, header sizes and waiting times are bounded, so that no client
// can hold more than its share. Destruction closes everything at once.
class AdminServer {
 public:
  // Called on the server's thread; must not block for long.
  struct Sources {
    std::function<std::string()> metrics;
    std::function<std::vector<std::string>()> not_ready;
  };
  struct Limits {
    int connections = 64;  // further ones wait in the system's backlog
    int header_bytes = 8192;
    // For a request to arrive, and for an answer to be taken.
    Duration idle = std::chrono::seconds(10);
  };

  // `listen`: "host:port"; a name or "[::]" may stand for IPv4 and IPv6 together. UNAVAILABLE when
  // the port is in use.
  static absl::StatusOr<std::unique_ptr<AdminServer>> Start(const std::string& listen,
                                                            Sources sources, Limits limits);
  ~AdminServer();

  [[nodiscard]] int port() const;

 private:
  struct State;
  explicit AdminServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo
