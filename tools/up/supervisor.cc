#include "tools/up/supervisor.h"

#include <algorithm>
#include <array>
#include <signal.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

constexpr int kTailLines = 15;
constexpr std::chrono::milliseconds kStopPoll{20};

std::string FileNameOf(const std::string& service) {
  std::string name = service;
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

// `address` with another port, in the form that flags and clients take.
std::string WithPort(const std::string& address, int port) {
  const std::size_t colon = address.rfind(':');
  return absl::StrFormat("%s:%d", address.substr(0, colon), port);
}

// Where a client on this machine reaches a server listening on `address`.
std::string Reachable(std::string address) {
  for (const auto& [wildcard, loopback] :
       {std::pair<std::string, std::string>("0.0.0.0:", "127.0.0.1:"),
        std::pair<std::string, std::string>("[::]:", "[::1]:")}) {
    if (address.rfind(wildcard, 0) == 0) {
      return loopback + address.substr(wildcard.size());
    }
  }
  return address;
}

}  // namespace

struct Supervisor::Service {
  PlannedService plan;
  ServicePhase phase = ServicePhase::kWaiting;
  std::optional<ChildProcess> process;
  std::filesystem::path log;
  std::filesystem::path port_file;
  PortFile ports;
  TimePoint started_at;
  TimePoint not_before;  // of the next start
  int restarts = 0;
  int quick_ends = 0;
};

Supervisor::Supervisor(SupervisorOptions options, std::vector<PlannedService> plan, Report report)
    : options_(std::move(options)), report_(std::move(report)) {
  for (PlannedService& planned : plan) {
    Service service;
    service.log = options_.folder / (FileNameOf(planned.name) + ".log");
    service.port_file = options_.folder / (FileNameOf(planned.name) + ".ports");
    service.plan = std::move(planned);
    services_.push_back(std::move(service));
  }
}

Supervisor::~Supervisor() = default;

absl::Status Supervisor::Tick(TimePoint now) {
  for (Service& service : services_) {
    YANGTUO_RETURN_IF_ERROR(Advance(service, now));
  }
  return absl::OkStatus();
}

absl::Status Supervisor::Advance(Service& service, TimePoint now) {
  if (service.process) {
    if (const auto how = service.process->Poll()) {
      return OnEnd(service, *how, now);
    }
  }
  switch (service.phase) {
    case ServicePhase::kWaiting:
      return TryStart(service, now);
    case ServicePhase::kStarting:
      return AwaitPorts(service, now);
    case ServicePhase::kRunning:
    case ServicePhase::kStopped:
      return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status Supervisor::TryStart(Service& service, TimePoint now) {
  const std::optional<std::vector<std::string>> arguments = ArgumentsOf(service);
  if (!arguments || now < service.not_before) {
    return absl::OkStatus();
  }
  std::error_code ignored;  // nothing there is what we want
  std::filesystem::remove(service.port_file, ignored);
  YANGTUO_ASSIGN_OR_RETURN(service.process, ChildProcess::Start(*arguments, service.log));
  service.phase = ServicePhase::kStarting;
  service.started_at = now;
  return absl::OkStatus();
}

absl::Status Supervisor::AwaitPorts(Service& service, TimePoint now) {
  absl::StatusOr<PortFile> ports = ReadPortFile(service.port_file.string());
  if (ports.ok()) {
    service.ports = *std::move(ports);
    service.phase = ServicePhase::kRunning;
    for (ListenFlag& listen : service.plan.listens) {
      if (const auto port = service.ports.find(listen.key); port != service.ports.end()) {
        listen.address = WithPort(listen.address, port->second);
      }
    }
    report_(service.plan.name, service.restarts == 0 ? "started" : "runs again");
    return absl::OkStatus();
  }
  if (now - service.started_at > options_.start_limit) {
    return absl::DeadlineExceededError(absl::StrFormat(
        "%s did not open its ports within %.0f s (--start-limit); its log, %s, ends with:\n%s",
        service.plan.name, ToSeconds(options_.start_limit), service.log.string(),
        ReadTail(service.log, kTailLines)));
  }
  return absl::OkStatus();
}

absl::Status Supervisor::OnEnd(Service& service, const std::string& how, TimePoint now) {
  const bool quick = now - service.started_at < options_.quick_end;
  service.process.reset();
  service.phase = ServicePhase::kWaiting;
  service.quick_ends = quick ? service.quick_ends + 1 : 0;
  if (!restarts_allowed_ || service.quick_ends > options_.max_quick_ends) {
    service.phase = ServicePhase::kStopped;
    return absl::AbortedError(absl::StrFormat(
        "%s ended%s (%s); its log, %s, ends with:\n%s", service.plan.name,
        restarts_allowed_ ? absl::StrFormat(" %d times in a row", service.quick_ends) : "", how,
        service.log.string(), ReadTail(service.log, kTailLines)));
  }
  ++service.restarts;
  Duration pause = options_.first_pause;
  for (int i = 1; i < service.quick_ends && pause < options_.longest_pause; ++i) {
    pause *= 2;
  }
  pause = std::min(pause, options_.longest_pause);
  service.not_before = now + pause;
  report_(service.plan.name,
          absl::StrFormat("ended (%s), starting it again in %.2g s", how, ToSeconds(pause)));
  return absl::OkStatus();
}

std::optional<std::vector<std::string>> Supervisor::ArgumentsOf(const Service& service) const {
  std::vector<std::string> arguments = {service.plan.program.string()};
  arguments.insert(arguments.end(), service.plan.arguments.begin(), service.plan.arguments.end());
  for (const ListenFlag& listen : service.plan.listens) {
    arguments.insert(arguments.end(), {listen.flag, listen.address});
  }
  for (const PeerFlag& peer : service.plan.peers) {
    std::vector<std::string> addresses;
    for (const std::string& name : peer.services) {
      addresses.push_back(AddressOf(name, peer.key));
      if (addresses.back().empty()) {
        return std::nullopt;
      }
    }
    arguments.insert(arguments.end(), {peer.flag, absl::StrJoin(addresses, ",")});
  }
  arguments.insert(arguments.end(), {"--port-file", service.port_file.string()});
  return arguments;
}

bool Supervisor::all_running() const {
  return std::all_of(services_.begin(), services_.end(), [](const Service& service) {
    return service.phase == ServicePhase::kRunning;
  });
}

std::string Supervisor::AddressOf(const std::string& service, const std::string& key) const {
  for (const Service& candidate : services_) {
    // Known from its first start on: a restarted process comes back at the same port.
    if (candidate.plan.name != service || candidate.ports.count(key) == 0) {
      continue;
    }
    for (const ListenFlag& listen : candidate.plan.listens) {
      if (listen.key == key) {
        return Reachable(listen.address);
      }
    }
  }
  return "";
}

void Supervisor::Stop(const std::function<bool(Duration)>& wait) {
  constexpr std::array<StopStage, 4> kOrder = {StopStage::kGateway, StopStage::kLeaders,
                                               StopStage::kShards, StopStage::kTokenizer};
  bool patient = true;
  for (const StopStage stage : kOrder) {
    const auto ended = [stage](Service& service) {
      return service.plan.stop_stage != stage || !service.process || service.process->Poll();
    };
    const auto all_ended = [&] { return std::all_of(services_.begin(), services_.end(), ended); };
    const auto signal_rest = [&](int number) {
      for (Service& service : services_) {
        if (!ended(service)) {
          service.process->Signal(number);
        }
      }
    };
    signal_rest(SIGTERM);
    const TimePoint limit = std::chrono::steady_clock::now() + options_.stop_limit;
    while (patient && !all_ended() && std::chrono::steady_clock::now() < limit) {
      patient = wait(kStopPoll);
    }
    signal_rest(SIGKILL);
    for (Service& service : services_) {
      if (service.plan.stop_stage == stage) {
        service.process.reset();  // waits for the killed ones
        service.phase = ServicePhase::kStopped;
      }
    }
  }
}

std::vector<ServiceView> Supervisor::services() const {
  std::vector<ServiceView> views;
  for (const Service& service : services_) {
    views.push_back({.name = service.plan.name,
                     .phase = service.phase,
                     .pid = service.process ? service.process->pid() : 0,
                     .ports = service.ports,
                     .restarts = service.restarts,
                     .log = service.log});
  }
  return views;
}

}  // namespace yangtuo
