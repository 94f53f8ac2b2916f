#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tools/common/cluster_state.h"
#include "tools/up/cluster_plan.h"
#include "tools/up/log_follower.h"
#include "tools/up/progress.h"
#include "tools/up/signal_inbox.h"
#include "tools/up/supervisor.h"

namespace yangtuo {

struct ClusterOptions {
  ClusterShape shape;
  SupervisorOptions supervisor;
  std::filesystem::path state_file;
  std::string port_file;  // empty: none
  bool follow_logs = false;
  Duration ready_limit = std::chrono::seconds(300);
};

// A cluster on this machine, from its start to its end. For the main thread; borrows the signals.
class Cluster {
 public:
  Cluster(ClusterOptions options, SignalInbox& signals, Terminal terminal);
  ~Cluster();

  enum class Outcome { kReady, kInterrupted };
  // Until every service is ready. An error says which is not and shows the end of its log.
  absl::StatusOr<Outcome> Start();
  // Keeps it running; OK when the user ended it.
  absl::Status Run();
  // In order, with a limit; at once after another signal. Removes state and port files.
  void Stop();

  [[nodiscard]] ClusterState State() const;
  // Of the gateway's HTTP API; "" when it has none.
  [[nodiscard]] std::string HttpAddress() const;

 private:
  // Lets time pass; true when a signal asks for the end.
  bool WaitForSignal(Duration limit);
  [[nodiscard]] std::string FirstUnready() const;
  [[nodiscard]] std::string StartingNames() const;
  absl::Status NotReadyInTime(const std::string& service) const;
  absl::Status WriteFiles();
  void OnReport(const std::string& service, const std::string& what);

  ClusterOptions options_;
  SignalInbox& signals_;
  Progress progress_;
  LogFollower follower_;
  Supervisor supervisor_;
  bool ready_ = false;
  bool changed_ = false;  // since the state file was written
};

}  // namespace yangtuo
