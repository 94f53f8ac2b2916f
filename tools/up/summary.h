#pragma once

#include <cstdint>
#include <string>

#include "tools/common/cluster_state.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo {

// What `yangtuo up` says when the cluster is ready: its services and models, and how to talk to it.
struct ClusterSummary {
  ClusterState state;
  std::string http = {};  // address of the HTTP API
  v1::ListModelsResponse models;
  std::int32_t threads = 1;  // of a worker process
  double seconds = 0;        // from the start until it was ready
};

std::string FormatSummary(const ClusterSummary& summary);

}  // namespace yangtuo
