#pragma once

#include <optional>
#include <string>
#include <vector>

#include "inference_core/base/clock.h"
#include "tools/common/client.h"
#include "tools/common/cluster_state.h"

namespace yangtuo {

// What a service's admin port says about it. Absent numbers are not exposed by this kind of
// service.
struct ServiceLoad {
  bool answers = false;
  bool ready = false;
  std::string problem;  // why it is not ready, or does not answer
  std::optional<double> running;
  std::optional<double> waiting;
  std::optional<double> kv_usage_percent;
  std::optional<double> generated_tokens;  // since the process started
  TimePoint at;
};

// Asks /readyz and /metrics of one admin address.
ServiceLoad ReadServiceLoad(const std::string& admin_address);
// The part that reads the texts.
ServiceLoad ParseServiceLoad(int ready_code, const std::string& ready_body,
                             const std::string& metrics);

// One look at a cluster.
struct Snapshot {
  std::string server;
  absl::StatusOr<bool> serving = false;  // grpc.health.v1 of the gateway
  v1::ListModelsResponse models;
  std::vector<ServiceRecord> services;
  std::vector<ServiceLoad> loads;  // of `services`
};

Snapshot TakeSnapshot(Client& client, const std::string& server,
                      const std::vector<ServiceRecord>& services);

// As text; tokens a second come from the difference to `before`. No table line is wider than
// `max_width` (0: any).
std::string FormatSnapshot(const Snapshot& before, const Snapshot& now, int max_width);

}  // namespace yangtuo
