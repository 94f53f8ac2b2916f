#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/common/client.h"
#include "tools/common/cluster_state.h"

namespace yangtuo {

struct StatusOptions {
  ClientOptions client;
  bool server_given = false;       // by flag or environment
  std::vector<std::string> admin;  // further admin addresses to ask
  std::string state_file;          // empty: found by itself
  bool watch = false;              // again every second
};

// `yangtuo status`: returns the exit code: 0 when the gateway serves.
int RunStatus(const StatusOptions& options);

// Which gateway and services to look at: those of the `yangtuo up` with the given server, of the
// only one that runs, or just what the options name. FAILED_PRECONDITION, listing the clusters,
// when it is not clear which is meant.
struct StatusTarget {
  std::string server;
  std::vector<ServiceRecord> services;
};
absl::StatusOr<StatusTarget> ChooseTarget(const StatusOptions& options,
                                          const std::vector<ClusterState>& running);

}  // namespace yangtuo
