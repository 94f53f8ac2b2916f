#pragma once

#include <cstdint>
#include <string>

#include "tools/common/cluster_state.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo {

// What `yangtuo up` says when the cluster is ready: its services and models, and how to talk to it.
struct ClusterSummary {
  ClusterState state;
  v1::ListModelsResponse models;
  std::int32_t threads = 1;  // of a worker process
  std::int32_t workers = 1;  // worker processes
  double seconds = 0;        // from the start until it was ready
};

// No line of its tables is wider than `max_width` (0: any).
std::string FormatSummary(const ClusterSummary& summary, int max_width);

}  // namespace yangtuo
