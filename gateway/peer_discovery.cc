#include "gateway/peer_discovery.h"

#include <algorithm>
#include <memory>
#include <netdb.h>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "services/common/log.h"

namespace yangtuo::gateway {
namespace {

constexpr std::string_view kDnsScheme = "dns:///";

// One target's peers as last found.
struct Found {
  std::vector<PeerAddress> peers;
  bool failed = false;  // the last attempt; logged when it changes
};

std::string JoinHostPort(const std::string& host, const std::string& port) {
  return host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port;
}

void ResolveInto(const PeerTarget& target, const PeerDiscovery::Resolver& resolver, Found& found) {
  const auto addresses = resolver(target.host, target.port);
  if (!addresses.ok()) {
    if (!found.failed) {
      Log(LogLevel::kWarning, "name not resolved",
          {{"name", target.host}, {"error", std::string(addresses.status().message())}});
    }
    found.failed = true;
    return;
  }
  found.failed = false;
  found.peers.clear();
  for (const std::string& address : *addresses) {
    found.peers.push_back({.target = address, .dns_name = target.host});
  }
}

std::vector<PeerAddress> Union(const std::vector<Found>& found) {
  std::vector<PeerAddress> all;
  for (const Found& each : found) {
    all.insert(all.end(), each.peers.begin(), each.peers.end());
  }
  std::sort(all.begin(), all.end());
  const auto same = [](const PeerAddress& a, const PeerAddress& b) { return a.target == b.target; };
  all.erase(std::unique(all.begin(), all.end(), same), all.end());
  return all;
}

}  // namespace

absl::StatusOr<PeerTarget> ParsePeerTarget(const std::string& target) {
  PeerTarget parsed;
  std::string address = target;
  if (address.starts_with(kDnsScheme)) {
    parsed.resolve = true;
    address.erase(0, kDnsScheme.size());
  }
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size() ||
      address.find('/') != std::string::npos ||
      address.find_first_not_of("0123456789", colon + 1) != std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("\"%s\" is no address of a peer: expected host:port (127.0.0.1:50053) or "
                        "dns:///name:port (dns:///workers:50053)",
                        target));
  }
  parsed.host = address.substr(0, colon);
  parsed.port = address.substr(colon + 1);
  if (parsed.host.size() > 2 && parsed.host.front() == '[' && parsed.host.back() == ']') {
    parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  }
  return parsed;
}

absl::StatusOr<std::vector<std::string>> ResolveWithSystem(const std::string& host,
                                                           const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &list); error != 0) {
    return absl::UnavailableError(
        absl::StrFormat("cannot resolve %s: %s", host, gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, &freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    char numeric[NI_MAXHOST];
    if (getnameinfo(entry->ai_addr, entry->ai_addrlen, numeric, sizeof(numeric), nullptr, 0,
                    NI_NUMERICHOST) == 0) {
      addresses.push_back(JoinHostPort(numeric, port));
    }
  }
  return addresses;
}

PeerDiscovery::PeerDiscovery(Options options,
                             std::function<void(const std::vector<PeerAddress>&)> update)
    : options_(std::move(options)), update_(std::move(update)) {
  const auto needs_resolving = [](const PeerTarget& target) { return target.resolve; };
  if (std::any_of(options_.targets.begin(), options_.targets.end(), needs_resolving)) {
    thread_ = std::thread([this] { Loop(); });
    return;
  }
  std::vector<Found> found;
  for (const PeerTarget& target : options_.targets) {
    found.push_back({.peers = {{.target = JoinHostPort(target.host, target.port)}}});
  }
  update_(Union(found));
}

PeerDiscovery::~PeerDiscovery() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
    stop_changed_.NotifyAll();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void PeerDiscovery::Loop() {
  std::vector<Found> found(options_.targets.size());
  std::optional<std::vector<PeerAddress>> known;
  while (true) {
    for (std::size_t i = 0; i < found.size(); ++i) {
      const PeerTarget& target = options_.targets[i];
      if (target.resolve) {
        ResolveInto(target, options_.resolver, found[i]);
      } else {
        found[i].peers = {{.target = JoinHostPort(target.host, target.port), .dns_name = ""}};
      }
    }
    std::vector<PeerAddress> now = Union(found);
    if (!known.has_value() || *known != now) {
      update_(now);
      known = std::move(now);
    }
    const MutexLock lock(mutex_);
    const TimePoint next = std::chrono::steady_clock::now() + options_.period;
    while (!stop_ && std::chrono::steady_clock::now() < next) {
      stop_changed_.WaitUntil(mutex_, next);
    }
    if (stop_) {
      return;
    }
  }
}

}  // namespace yangtuo::gateway
