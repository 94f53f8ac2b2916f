#pragma once

#include <compare>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"

namespace yangtuo::gateway {

// Where one peer is reached.
struct PeerAddress {
  std::string target;  // "host:port", one connection
  std::string
      dns_name{};  // the name it was found under, which its certificate carries; may be empty

  auto operator<=>(const PeerAddress&) const = default;
};

// "host:port" is a peer; "dns:///name:port" stands for all addresses of a name, one peer each.
struct PeerTarget {
  std::string host;
  std::string port;
  bool resolve = false;
};

// INVALID_ARGUMENT with an example when it is neither.
absl::StatusOr<PeerTarget> ParsePeerTarget(const std::string& target);

// All addresses of a name, as numeric "host:port". The system's resolver; blocks.
absl::StatusOr<std::vector<std::string>> ResolveWithSystem(const std::string& host,
                                                           const std::string& port);

// Keeps a list of peers current. gRPC's own resolver would give one channel over all addresses of a
// name; routing by load needs one channel each, so names are resolved here, again and again, on a
// thread of its own. A name that cannot be resolved keeps its last addresses.
class PeerDiscovery {
 public:
  using Resolver = std::function<absl::StatusOr<std::vector<std::string>>(const std::string&,
                                                                          const std::string&)>;

  struct Options {
    std::vector<PeerTarget> targets;
    Duration period = std::chrono::seconds(3);
    Resolver resolver = ResolveWithSystem;
  };

  // Calls `update` with the sorted list at once, from the constructor, when no name needs
  // resolving; otherwise from the thread after every round that changed it. It must not block.
  PeerDiscovery(Options options, std::function<void(const std::vector<PeerAddress>&)> update);
  ~PeerDiscovery();
  PeerDiscovery(const PeerDiscovery&) = delete;
  PeerDiscovery& operator=(const PeerDiscovery&) = delete;

 private:
  void Loop() ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  const std::function<void(const std::vector<PeerAddress>&)> update_;
  Mutex mutex_;
  CondVar stop_changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace yangtuo::gateway
