#include <chrono>
#include <map>
#include <string>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/config.h"
#include "services/common/listen_address.h"
#include "services/common/tls_files.h"

namespace yangtuo {
namespace {

constexpr char kNetwork[] = "Network";
constexpr char kTls[] = "TLS (PEM files; none: plaintext)";
constexpr char kOperation[] = "Operation";
constexpr char kTracing[] = "Tracing";

template <typename Enum>
void AddChoice(CLI::App& app, const std::string& flag, Enum& value,
               const std::map<std::string, Enum>& names) {
  app.add_option_function<std::string>(
         flag, [&value, names](const std::string& name) { value = names.at(name); })
      ->check(CLI::IsMember(names))
      ->default_function([&value, names] {
        for (const auto& [name, one] : names) {
          if (one == value) {
            return name;
          }
        }
        return std::string();
      })
      ->capture_default_str()
      ->group(kOperation);
}

void AddTlsFlags(CLI::App& app, ServiceOptions& options) {
  const auto add = [&app](const char* flag, std::string& value, const char* description) {
    app.add_option(flag, value, description)->type_name("FILE")->group(kTls);
  };
  add("--tls-cert", options.tls.cert_file, "Certificate chain of this service");
  add("--tls-key", options.tls.key_file, "Private key of --tls-cert");
  add("--tls-client-ca", options.tls.client_ca_file,
      "Clients must present a certificate of this CA (mutual TLS)");
  add("--peer-tls-ca", options.peer_tls.ca_file,
      "Connect to other services with TLS; this CA verifies them");
  add("--peer-tls-cert", options.peer_tls.cert_file, "Our certificate towards other services");
  add("--peer-tls-key", options.peer_tls.key_file, "Private key of --peer-tls-cert");
  app.add_option("--peer-tls-server-name", options.peer_tls.server_name,
                 "Name in the certificates of other services when it is not their address")
      ->group(kTls);
}

void AddTracingFlags(CLI::App& app, TracingOptions& tracing) {
  tracing = TracingOptions::FromEnvironment();
  app.add_option("--otlp-endpoint", tracing.endpoint,
                 "Send spans to this OTLP/HTTP collector, as JSON to URL/v1/traces; empty: no "
                 "spans. Default: OTEL_EXPORTER_OTLP_ENDPOINT")
      ->type_name("URL")
      ->capture_default_str()
      ->group(kTracing);
  app.add_option("--otlp-ca", tracing.ca_file,
                 "PEM file that verifies an https collector; empty: the system's authorities. "
                 "Default: OTEL_EXPORTER_OTLP_CERTIFICATE")
      ->type_name("FILE")
      ->capture_default_str()
      ->group(kTracing);
  app.add_option("--otlp-sample-ratio", tracing.sample_ratio,
                 "Share of requests without a trace of their own that begin one; those with a "
                 "traceparent are recorded when it says so")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(kTracing);
}

}  // namespace

void AddServiceFlags(CLI::App& app, ServiceOptions& options) {
  app.add_option("--listen", options.listen, "gRPC address, host:port; port 0: system's choice")
      ->capture_default_str()
      ->group(kNetwork);
  app.add_option("--admin-listen", options.admin_listen,
                 "Address of /metrics /livez /readyz (plain HTTP); empty: none")
      ->capture_default_str()
      ->group(kNetwork);
  app.add_option("--port-file", options.port_file, "Write the ports in use to this JSON file")
      ->type_name("FILE")
      ->group(kNetwork);
  AddTlsFlags(app, options);
  AddSwitch(app, "reflection", options.reflection, "Serve gRPC reflection")->group(kNetwork);
  app.add_option_function<double>(
         "--drain-seconds",
         [&options](double seconds) {
           options.drain_limit =
               std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
         },
         "On SIGTERM, running calls have this long to end before they are cancelled")
      ->check(CLI::Range(0.0, 86400.0))
      ->default_function(
          [&options] { return absl::StrFormat("%g", ToSeconds(options.drain_limit)); })
      ->capture_default_str()
      ->group(kOperation);
  AddChoice<LogLevel>(app, "--log-level", options.log_level,
                      {{"debug", LogLevel::kDebug},
                       {"info", LogLevel::kInfo},
                       {"warning", LogLevel::kWarning},
                       {"error", LogLevel::kError}});
  AddChoice<LogFormat>(app, "--log-format", options.log_format,
                       {{"text", LogFormat::kText}, {"json", LogFormat::kJson}});
  AddTracingFlags(app, options.tracing);
}

absl::Status CheckServiceOptions(const ServiceOptions& options) {
  YANGTUO_RETURN_IF_ERROR(ParseListenAddress(options.listen).status());
  if (!options.admin_listen.empty()) {
    YANGTUO_RETURN_IF_ERROR(ParseListenAddress(options.admin_listen).status());
  }
  YANGTUO_RETURN_IF_ERROR(CheckTracingOptions(options.tracing));
  YANGTUO_RETURN_IF_ERROR(ServerCredentialsOf(options.tls).status());
  return ChannelCredentialsOf(options.peer_tls).status();
}

}  // namespace yangtuo
