#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "services/common/port_file.h"
#include "tools/up/child_process.h"
#include "tools/up/cluster_plan.h"

namespace yangtuo {

struct SupervisorOptions {
  std::filesystem::path folder;  // logs and port files
  // A service that ends is started again after the first pause; each further quick end doubles it.
  Duration first_pause = std::chrono::milliseconds(500);
  Duration longest_pause = std::chrono::seconds(10);
  Duration quick_end = std::chrono::seconds(30);     // after running for less than this
  int max_quick_ends = 5;                            // in a row; then the supervisor gives up
  Duration start_limit = std::chrono::seconds(300);  // from a service's start to its port file
  Duration stop_limit = std::chrono::seconds(15);    // from SIGTERM to SIGKILL, each stage
};

enum class ServicePhase {
  kWaiting,   // for the addresses of its peers, or to be started again
  kStarting,  // its port file is awaited
  kRunning,
  kStopped,
};

// What there is to show about a service.
struct ServiceView {
  std::string name;
  ServicePhase phase = ServicePhase::kWaiting;
  pid_t pid = 0;  // 0: no process
  PortFile ports;
  int restarts = 0;
  std::filesystem::path log;
};

// Starts the processes of a plan when their peers' addresses are known, starts them again when they
// end, and stops them in order. For the main thread; nothing happens but in Tick and Stop.
class Supervisor {
 public:
  // One line about something that happened to a service.
  using Report = std::function<void(const std::string& service, const std::string& what)>;

  Supervisor(SupervisorOptions options, std::vector<PlannedService> plan, Report report);
  ~Supervisor();

  // Does what is due. An error ends the cluster: a process that could not be started, ended before
  // AllowRestarts, gave no port file in time, or ended too often; its message holds the last lines
  // of its log.
  absl::Status Tick(TimePoint now);

  // All run and have told their ports.
  [[nodiscard]] bool all_running() const;
  // From now on a process that ends is started again. Before, at the first start, a process that
  // ends would end again: a wrong flag, a model that cannot be read.
  void AllowRestarts() { restarts_allowed_ = true; }

  // SIGTERM to one stage after the other, SIGKILL to what does not end in time. `wait` passes time
  // between looks, and returns false when the user will not wait any longer.
  void Stop(const std::function<bool(Duration)>& wait);

  [[nodiscard]] std::vector<ServiceView> services() const;
  // "127.0.0.1:40123"; empty while unknown.
  [[nodiscard]] std::string AddressOf(const std::string& service, const std::string& key) const;

 private:
  struct Service;
  absl::Status Advance(Service& service, TimePoint now);
  absl::Status TryStart(Service& service, TimePoint now);
  absl::Status AwaitPorts(Service& service, TimePoint now);
  absl::Status OnEnd(Service& service, const std::string& how, TimePoint now);
  [[nodiscard]] std::optional<std::vector<std::string>> ArgumentsOf(const Service& service) const;

  SupervisorOptions options_;
  Report report_;
  bool restarts_allowed_ = false;
  std::vector<Service> services_;
};

}  // namespace yangtuo
