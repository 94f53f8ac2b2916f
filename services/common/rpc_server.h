#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "services/common/metrics.h"
#include "services/common/service_options.h"

namespace yangtuo {

// A listening gRPC server with health, reflection, TLS and keepalive, and the admin port beside it.
class RpcServer {
 public:
  // Starts both ports and writes the port file. `services` outlive the server. Every name in
  // `health_names` starts NOT_SERVING; the empty name is SERVING while the process lives. Errors:
  // UNAVAILABLE when a port is in use (names it), INVALID_ARGUMENT for unreadable certificates.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(
      const ServiceOptions& options, const std::vector<grpc::Service*>& services,
      const std::vector<std::string>& health_names, Metrics& metrics);
  ~RpcServer();

  [[nodiscard]] int port() const;
  [[nodiscard]] int admin_port() const;

  // grpc.health.v1 and /readyz (ready when all names serve and nothing drains). Thread-safe.
  void SetServing(const std::string& health_name, bool serving);

  // Named services turn NOT_SERVING at once. The port stays open meanwhile, so that probes of the
  // empty name pass and services can refuse new calls in their own words; a service does that and
  // waits for its own work first, because calls that clients go on making are waited for, too. When
  // no call runs any more, or `limit` is over: GOAWAY, the port closes, and what still runs is
  // cancelled. Calls whose method starts with "Watch" last as long as the process: they are not
  // waited for. Blocks until the last call ended. Call from a normal thread, once.
  void Drain(Duration limit);

 private:
  struct State;
  explicit RpcServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Blocks SIGTERM and SIGINT for all threads that start afterwards (call first in main).
void BlockTerminationSignals();

}  // namespace yangtuo
