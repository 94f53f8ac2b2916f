#pragma once

#include <chrono>
#include <map>
#include <string>

#include "inference_core/base/clock.h"
#include "services/common/log.h"
#include "services/common/tracer.h"

namespace yangtuo {

// Every member has an initialiser, so that designated initialisers may leave any of them out.

// TLS of a listening port. All empty: plaintext.
struct ServerTls {
  std::string cert_file = {};  // PEM chain
  std::string key_file = {};   // PEM key
  std::string client_ca_file =
      {};  // set: clients must present a certificate of this CA (mutual TLS)
  [[nodiscard]] bool enabled() const { return !cert_file.empty(); }
};

// TLS towards peers. `ca_file` empty: plaintext.
struct ClientTls {
  std::string ca_file = {};    // PEM, verifies the peer
  std::string cert_file = {};  // with key_file: our own certificate, for mutual TLS
  std::string key_file = {};
  std::string server_name = {};  // expected name when it differs from the address; tests use it
  [[nodiscard]] bool enabled() const { return !ca_file.empty(); }
};

// What every service has. Flags, environment and file fill it (services/common/config.h).
struct ServiceOptions {
  std::string listen = "127.0.0.1:0";  // gRPC "host:port"; port 0: the system chooses
  // /metrics /livez /readyz. Empty: no admin port (for a second RpcServer of one process).
  std::string admin_listen = "127.0.0.1:0";
  // Written (atomically) once the ports are bound: JSON {"grpc": n, "admin": n, "pid": n}.
  std::string port_file = {};
  // More entries of the port file: ports that the process opened before, such as {"http", 8080}.
  std::map<std::string, int> other_ports = {};
  ServerTls tls = {};
  ClientTls peer_tls = {};
  bool reflection = true;
  // Of one message that a client sends. Inner services exchange hidden states.
  int max_request_bytes = 256 << 20;
  Duration drain_limit = std::chrono::seconds(30);
  LogLevel log_level = LogLevel::kInfo;
  LogFormat log_format = LogFormat::kText;
  TracingOptions tracing = {};
};

}  // namespace yangtuo
