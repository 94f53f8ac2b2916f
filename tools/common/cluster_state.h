#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace yangtuo {

// One process of a cluster that `yangtuo up` runs.
struct ServiceRecord {
  std::string name;  // "gateway", "tokenizer", "worker 0", "worker 0 shard 1"
  std::int64_t pid = 0;
  std::string grpc;   // "127.0.0.1:50051"
  std::string admin;  // of /metrics and /readyz
  std::string log;    // file
  std::int64_t restarts = 0;
};

// What `yangtuo up` tells other commands about its cluster.
struct ClusterState {
  std::int64_t pid = 0;  // of `yangtuo up`
  std::string gateway;   // gRPC address
  std::string model;     // path of the model
  std::string log_folder;
  std::vector<ServiceRecord> services;
};

// The folder of this user's state files: $XDG_RUNTIME_DIR/yangtuo, else /tmp/yangtuo-UID (made
// for this user alone). FAILED_PRECONDITION when somebody else owns it.
absl::StatusOr<std::filesystem::path> StateFolder();

// Written under another name first, so that readers see all of it or nothing.
absl::Status WriteFileAtomically(const std::filesystem::path& path, const std::string& text);

absl::Status WriteClusterState(const std::filesystem::path& path, const ClusterState& state);
absl::StatusOr<ClusterState> ReadClusterState(const std::filesystem::path& path);

// The clusters in the folder whose `yangtuo up` still runs; files that others left are passed over.
std::vector<ClusterState> RunningClusters(const std::filesystem::path& folder);

}  // namespace yangtuo
