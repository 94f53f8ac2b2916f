#include "tools/up/cluster.h"

#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/listen_address.h"
#include "services/common/port_file.h"
#include "tools/common/http_get.h"
#include "tools/common/terminal.h"

namespace yangtuo {
namespace {

constexpr std::chrono::milliseconds kTick{50};
constexpr std::chrono::milliseconds kProbeLimit{500};
constexpr std::chrono::milliseconds kProbePeriod{200};
constexpr int kTailLines = 15;

TimePoint Now() { return std::chrono::steady_clock::now(); }

}  // namespace

Cluster::Cluster(ClusterOptions options, SignalInbox& signals, Terminal terminal)
    : options_(std::move(options)),
      signals_(signals),
      progress_(terminal, Now()),
      follower_([this](const std::string& name, const std::string& line) {
        progress_.Clear();
        WriteAll(STDERR_FILENO, absl::StrFormat("%s | %s\n", name, line));
      }),
      supervisor_(options_.supervisor, PlanCluster(options_.shape),
                  [this](const std::string& service, const std::string& what) {
                    OnReport(service, what);
                  }) {
  if (options_.follow_logs) {
    for (const ServiceView& service : supervisor_.services()) {
      follower_.Add(service.name, service.log);
    }
  }
}

Cluster::~Cluster() = default;

void Cluster::OnReport(const std::string& service, const std::string& what) {
  changed_ = true;
  const std::string line = absl::StrFormat("%s %s", service, what);
  ready_ ? progress_.Print(line) : progress_.Step(line);
}

bool Cluster::WaitForSignal(Duration limit) {
  const bool signalled = signals_.Wait(limit).has_value();
  follower_.Poll();
  return signalled;
}

absl::StatusOr<Cluster::Outcome> Cluster::Start() {
  const TimePoint begin = Now();
  TimePoint next_probe = begin;
  std::string unready;
  while (!ready_) {
    YANGTUO_RETURN_IF_ERROR(supervisor_.Tick(Now()));
    if (!supervisor_.all_running()) {
      progress_.ShowBriefly(StartingNames(), Now());
    } else if (Now() >= next_probe) {
      unready = FirstUnready();
      ready_ = unready.empty();
      next_probe = Now() + kProbePeriod;
    }
    if (!ready_ && !unready.empty()) {
      progress_.Show(absl::StrFormat("waiting until %s is ready", unready), Now());
      if (Now() - begin > options_.ready_limit) {
        progress_.Clear();
        return NotReadyInTime(unready);
      }
    }
    if (!ready_ && WaitForSignal(kTick)) {
      progress_.Clear();
      return Outcome::kInterrupted;
    }
  }
  progress_.Clear();
  supervisor_.AllowRestarts();
  YANGTUO_RETURN_IF_ERROR(WriteFiles());
  return Outcome::kReady;
}

absl::Status Cluster::Run() {
  while (!WaitForSignal(kTick)) {
    YANGTUO_RETURN_IF_ERROR(supervisor_.Tick(Now()));
    if (changed_) {
      YANGTUO_RETURN_IF_ERROR(WriteFiles());
    }
  }
  return absl::OkStatus();
}

void Cluster::Stop() {
  supervisor_.Stop([this](Duration limit) {
    const bool hurry = WaitForSignal(limit);
    if (hurry) {
      progress_.Print("stopping at once");
    }
    return !hurry;
  });
  follower_.Poll();
  std::error_code ignored;  // they may never have been written
  std::filesystem::remove(options_.state_file, ignored);
  if (!options_.port_file.empty()) {
    std::filesystem::remove(options_.port_file, ignored);
  }
}

std::string Cluster::FirstUnready() const {
  for (const ServiceView& service : supervisor_.services()) {
    const std::string admin = supervisor_.AddressOf(service.name, "admin");
    const absl::StatusOr<HttpAnswer> answer = HttpGet(admin, "/readyz", kProbeLimit);
    if (!answer.ok() || answer->code != 200) {
      return service.name;
    }
  }
  return "";
}

std::string Cluster::StartingNames() const {
  std::string names;
  for (const ServiceView& service : supervisor_.services()) {
    if (service.phase == ServicePhase::kStarting) {
      names += (names.empty() ? "starting " : ", ") + service.name;
    }
  }
  return names.empty() ? "starting" : names;
}

absl::Status Cluster::NotReadyInTime(const std::string& service) const {
  const absl::StatusOr<HttpAnswer> answer =
      HttpGet(supervisor_.AddressOf(service, "admin"), "/readyz", kProbeLimit);
  std::string tail;
  for (const ServiceView& view : supervisor_.services()) {
    if (view.name == service) {
      tail = absl::StrFormat("its log, %s, ends with:\n%s", view.log.string(),
                             ReadTail(view.log, kTailLines));
    }
  }
  return absl::DeadlineExceededError(
      absl::StrFormat("%s was not ready within %.0f s (--start-limit): %s; %s", service,
                      ToSeconds(options_.ready_limit),
                      answer.ok() ? answer->body : std::string(answer.status().message()), tail));
}

std::string Cluster::HttpAddress() const { return supervisor_.AddressOf(kGatewayName, "http"); }

ClusterState Cluster::State() const {
  ClusterState state{.pid = getpid(),
                     .gateway = supervisor_.AddressOf(kGatewayName, "grpc"),
                     .model = options_.shape.model.string(),
                     .log_folder = options_.supervisor.folder.string(),
                     .services = {}};
  // A plan has peers before those that name them; people look for the gateway first.
  const std::vector<ServiceView> services = supervisor_.services();
  for (auto it = services.rbegin(); it != services.rend(); ++it) {
    const ServiceView& service = *it;
    state.services.push_back({.name = service.name,
                              .pid = service.pid,
                              .grpc = supervisor_.AddressOf(service.name, "grpc"),
                              .admin = supervisor_.AddressOf(service.name, "admin"),
                              .log = service.log.string(),
                              .restarts = service.restarts});
  }
  return state;
}

absl::Status Cluster::WriteFiles() {
  changed_ = false;
  const ClusterState state = State();
  YANGTUO_RETURN_IF_ERROR(WriteClusterState(options_.state_file, state));
  if (options_.port_file.empty()) {
    return absl::OkStatus();
  }
  PortFile ports = {{"pid", getpid()}};
  for (const char* key : {"grpc", "admin", "http"}) {
    if (supervisor_.AddressOf(kGatewayName, key).empty()) {
      continue;  // a gateway without that port
    }
    YANGTUO_ASSIGN_OR_RETURN(const ListenAddress address,
                             ParseListenAddress(supervisor_.AddressOf(kGatewayName, key)));
    ports[key] = address.port;
  }
  return WritePortFile(options_.port_file, ports);
}

}  // namespace yangtuo
