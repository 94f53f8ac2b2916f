#pragma once

#include <filesystem>
#include <string>
#include <sys/types.h>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/up/child_process.h"

namespace yangtuo::bench_gateway {

// A service's process on loopback, on ports that the system chose. Killed by the destructor; for
// the main thread, as ChildProcess is.
class SpawnedService {
 public:
  // Runs `program` with `arguments` and those for ports, and waits until it has written its ports.
  // Its log goes to `folder`. UNAVAILABLE, with the end of the log, when it ends or stays silent.
  static absl::StatusOr<SpawnedService> Start(const std::filesystem::path& program,
                                              std::vector<std::string> arguments,
                                              const std::filesystem::path& folder);
  [[nodiscard]] const std::string& address() const { return address_; }
  // Of the HTTP API; empty when it has none.
  [[nodiscard]] const std::string& http_address() const { return http_address_; }
  [[nodiscard]] double ResidentBytes() const;
  // Of all its threads, user and system, since it began.
  [[nodiscard]] double CpuSeconds() const;

 private:
  explicit SpawnedService(ChildProcess process) : process_(std::move(process)) {}

  ChildProcess process_;
  std::string address_;
  std::string http_address_;
};

}  // namespace yangtuo::bench_gateway
