#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/admission.h"
#include "gateway/generation_flow.h"
#include "gateway/grpc_front_end.h"
#include "gateway/http/http_server.h"
#include "gateway/peer_discovery.h"
#include "services/common/metrics.h"
#include "services/common/service_options.h"

namespace yangtuo::gateway {

// Everything that the flags of yangtuo-gateway say.
struct GatewayOptions {
  ServiceOptions service;
  std::vector<std::string> workers;     // "host:port" or "dns:///name:port"
  std::vector<std::string> tokenizers;  // the same
  AdmissionLimits admission;
  RequestLimits limits;
  ResumeLimits resume;
  QueueLimits queue;
  RoutingLimits routing;
  // How long a text whose tokenizer was lost waits for another.
  Duration tokenizer_wait = std::chrono::seconds(8);
  FrontEndOptions front_end;
  // The HTTP API beside gRPC, with the same TLS files; an empty `listen` turns it off.
  HttpOptions http{.listen = ""};
  // Who may call, see services/common/api_keys.h. Empty: everybody.
  std::string api_keys_file;
  // Where a line for every request goes; "-": standard output; empty: nowhere.
  std::string audit_log;
  bool audit_prompts = false;
  // Lets /metrics and health be asked at the address that clients use.
  bool admin_on_public_address = false;
  // How often dns:/// names are looked up, and by whom.
  Duration resolve_period = std::chrono::seconds(3);
  PeerDiscovery::Resolver resolver = ResolveWithSystem;
};

// INVALID_ARGUMENT naming the flag.
absl::Status CheckGatewayOptions(const GatewayOptions& options);

// A running gateway: pools, discovery, front end and server. Destroying it ends everything.
class Gateway {
 public:
  static absl::StatusOr<std::unique_ptr<Gateway>> Start(const GatewayOptions& options,
                                                        Metrics& metrics);
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // New calls are refused, running ones end within `limit`. Blocks.
  void Drain(Duration limit);

  [[nodiscard]] int port() const;
  [[nodiscard]] int admin_port() const;
  [[nodiscard]] int http_port() const;  // 0: off
  [[nodiscard]] const Admission& admission() const;
  // At least one model has a ready group and a tokenizer.
  [[nodiscard]] bool ready() const;

 private:
  struct State;
  explicit Gateway(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo::gateway
