#include "tools/status/status.h"

#include <chrono>
#include <memory>
#include <thread>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "tools/common/error_text.h"
#include "tools/common/terminal.h"
#include "tools/status/snapshot.h"

namespace yangtuo {
namespace {

constexpr std::chrono::seconds kWatchPeriod{1};
// Between the two looks that tell tokens a second.
constexpr std::chrono::milliseconds kOneShotPeriod{500};

int Fail(const std::string& what) {
  WriteAll(STDERR_FILENO, absl::StrFormat("yangtuo status: %s\n", what));
  return 1;
}

absl::StatusOr<StatusTarget> FindTarget(const StatusOptions& options) {
  std::vector<ClusterState> running;
  if (!options.state_file.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const ClusterState state, ReadClusterState(options.state_file));
    running.push_back(state);
  } else if (const auto folder = StateFolder(); folder.ok()) {
    running = RunningClusters(*folder);
  }
  return ChooseTarget(options, running);
}

// Over what is there, without clearing first, so that nothing flickers.
void Redraw(const std::string& text) {
  std::string screen = "\033[H";
  for (const char byte : text) {
    screen += byte == '\n' ? std::string("\033[K\n") : std::string(1, byte);
  }
  WriteAll(STDOUT_FILENO, screen + "\033[J");
}

// Until Ctrl-C ends the program.
[[noreturn]] void Watch(const StatusOptions& options, Client& client, const StatusTarget& first) {
  const bool terminal = Terminal::LookAt(STDOUT_FILENO).interactive;
  WriteAll(STDOUT_FILENO, terminal ? "\033[2J" : "");
  StatusTarget target = first;
  Snapshot before = TakeSnapshot(client, target.server, target.services);
  while (true) {
    std::this_thread::sleep_for(kWatchPeriod);
    // Process ids and restarts change; the gateway stays the same.
    if (auto again = FindTarget(options); again.ok() && again->server == target.server) {
      target = *std::move(again);
    }
    Snapshot now = TakeSnapshot(client, target.server, target.services);
    const std::string text = FormatSnapshot(before, now, Terminal::LookAt(STDOUT_FILENO).columns);
    if (terminal) {
      Redraw(text);
    } else if (!WriteAll(STDOUT_FILENO, text + "\n")) {
      _exit(1);
    }
    before = std::move(now);
  }
}

}  // namespace

absl::StatusOr<StatusTarget> ChooseTarget(const StatusOptions& options,
                                          const std::vector<ClusterState>& running) {
  const ClusterState* chosen = nullptr;
  const bool any = !options.server_given;
  for (const ClusterState& cluster : running) {
    if (cluster.gateway == options.client.server || (any && running.size() == 1)) {
      chosen = &cluster;
    }
  }
  if (chosen == nullptr && any && running.size() > 1) {
    std::string list;
    for (const ClusterState& cluster : running) {
      absl::StrAppendFormat(&list, "\n  --server %s   (%s)", cluster.gateway, cluster.model);
    }
    return absl::FailedPreconditionError("several clusters run here: choose one with" + list);
  }
  StatusTarget target{.server = options.client.server, .services = {}};
  if (chosen != nullptr) {
    target = {.server = chosen->gateway, .services = chosen->services};
  }
  for (const std::string& admin : options.admin) {
    ServiceRecord service;
    service.name = admin;
    service.admin = admin;
    target.services.push_back(std::move(service));
  }
  return target;
}

int RunStatus(const StatusOptions& options) {
  const absl::StatusOr<StatusTarget> target = FindTarget(options);
  if (!target.ok()) {
    return Fail(std::string(target.status().message()));
  }
  ClientOptions client_options = options.client;
  client_options.server = target->server;
  const absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(client_options);
  if (!client.ok()) {
    return Fail(DescribeError(client.status(), target->server));
  }
  if (options.watch) {
    Watch(options, **client, *target);
  }
  Snapshot before = TakeSnapshot(**client, target->server, target->services);
  if (!before.serving.ok() && target->services.empty()) {
    return Fail(DescribeError(before.serving.status(), target->server));
  }
  if (!target->services.empty()) {
    std::this_thread::sleep_for(kOneShotPeriod);
  }
  const Snapshot now = TakeSnapshot(**client, target->server, target->services);
  WriteAll(STDOUT_FILENO, FormatSnapshot(before, now, Terminal::LookAt(STDOUT_FILENO).columns));
  return now.serving.ok() && *now.serving ? 0 : 1;
}

}  // namespace yangtuo
