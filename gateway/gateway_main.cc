#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "gateway/gateway.h"
#include "services/common/config.h"
#include "services/common/program.h"

namespace yangtuo::gateway {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo-gateway --workers 127.0.0.1:50053 --tokenizers 127.0.0.1:50052
  yangtuo-gateway --listen 0.0.0.0:50051 --workers dns:///workers:50053 \
                  --tokenizers dns:///tokenizers:50052 --max-requests 4096
  yangtuo-gateway --config gateway.toml --check-config

The gateway is ready (yangtuo.v1.GenerationService SERVING, /readyz 200) when at least one model
has a ready worker group and a tokenizer.)";

class RunningGateway final : public RunningService {
 public:
  explicit RunningGateway(std::unique_ptr<Gateway> gateway) : gateway_(std::move(gateway)) {}
  void Drain(Duration limit) override { gateway_->Drain(limit); }

 private:
  const std::unique_ptr<Gateway> gateway_;
};

// A duration in seconds, fractions allowed.
void AddSeconds(CLI::App& app, const char* flag, Duration& value, const char* description) {
  app.add_option_function<double>(
         flag,
         [&value](double seconds) {
           value = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
         },
         description)
      ->check(CLI::Range(0.0, 86400.0))
      ->default_function([&value] { return absl::StrFormat("%g", ToSeconds(value)); })
      ->capture_default_str()
      ->group("Limits");
}

void AddHttpFlags(CLI::App& app, HttpOptions& http, Compat& compat) {
  const std::map<std::string, Compat> shapes = {{"openai", Compat::kOpenAi},
                                                {"demo", Compat::kDemo}};
  app.add_option_function<std::string>(
         "--compat", [&compat, shapes](const std::string& name) { compat = shapes.at(name); },
         "Shapes of HTTP answers: OpenAI's, or those of Chinese-LLaMA-Alpaca's demo servers")
      ->check(CLI::IsMember(shapes))
      ->default_function([&compat] { return compat == Compat::kDemo ? "demo" : "openai"; })
      ->capture_default_str()
      ->group("HTTP");
  app.add_option("--http-listen", http.listen,
                 "Address of the OpenAI-compatible HTTP API; empty: none. TLS as for gRPC")
      ->capture_default_str()
      ->group("HTTP");
  app.add_option("--http-threads", http.threads, "Threads of the HTTP server")
      ->check(CLI::Range(1, 64))
      ->capture_default_str()
      ->group("HTTP");
  app.add_option("--http-connections", http.limits.connections,
                 "Open connections; further ones are answered 503")
      ->capture_default_str()
      ->group("HTTP");
  app.add_option("--http-body-bytes", http.limits.body_bytes, "Largest request body")
      ->capture_default_str()
      ->group("HTTP");
  app.add_option("--cors-origins", http.cors_origins,
                 "Origins whose web pages may call the HTTP API, with commas; * for all")
      ->delimiter(',')
      ->group("HTTP");
}

void AddRoutingFlags(CLI::App& app, GatewayOptions& options) {
  AddSeconds(
      app, "--max-queue-seconds", options.queue.max_wait,
      "A request without a token after this long is refused; 0: it waits until its deadline");
  app.add_option("--prefix-routing-blocks", options.routing.prefix_blocks,
                 "KV blocks of prompts whose group is remembered, to send prompts that begin alike "
                 "there; 0: do not")
      ->capture_default_str()
      ->group("Routing");
  app.add_option("--eject-after", options.routing.breaker.failures,
                 "Streams that a worker breaks one after the other before it gets none for a "
                 "while; 0: never")
      ->check(CLI::Range(0, 1000))
      ->capture_default_str()
      ->group("Routing");
  app.add_option("--max-ejected-share", options.routing.max_ejected_share,
                 "At most this share of a model's worker groups gets none, 0..1")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group("Routing");
}

void AddAccessFlags(CLI::App& app, GatewayOptions& options) {
  app.add_option("--api-keys-file", options.api_keys_file,
                 "Clients need a key of this JSON file (yangtuo keys makes it); read again when it "
                 "changes. None: everybody may call")
      ->type_name("FILE")
      ->group("Access");
  app.add_option("--audit-log", options.audit_log,
                 "Append a line of JSON for every request to this file; -: standard output")
      ->type_name("FILE")
      ->group("Access");
  AddSwitch(app, "audit-prompts", options.audit_prompts, "Write prompts into the audit log")
      ->group("Access");
  AddSwitch(app, "admin-on-public-address", options.admin_on_public_address,
            "Let --admin-listen be at the address for clients, where a firewall keeps them from it")
      ->group("Access");
}

void AddGatewayFlags(CLI::App& app, GatewayOptions& options) {
  app.add_option("--workers", options.workers,
                 "Leaders of worker groups: host:port, or dns:///name:port for all addresses of a "
                 "name; several with commas")
      ->delimiter(',')
      ->group("Peers");
  app.add_option("--tokenizers", options.tokenizers, "Tokenizer services, written like --workers")
      ->delimiter(',')
      ->group("Peers");
  AddSeconds(app, "--resolve-seconds", options.resolve_period,
             "How often dns:/// names are looked up");
  app.add_option("--max-requests", options.admission.max_requests,
                 "Requests in flight; more are refused with RESOURCE_EXHAUSTED")
      ->capture_default_str()
      ->group("Limits");
  app.add_option("--max-tokens", options.admission.max_tokens,
                 "Tokens in flight: prompts and longest answers together")
      ->capture_default_str()
      ->group("Limits");
  app.add_option("--max-n", options.limits.max_choices, "Choices of one request, 1..16")
      ->capture_default_str()
      ->group("Limits");
  app.add_option("--client-buffer", options.front_end.client_buffer_bytes,
                 "Bytes that may wait for a client that reads slowly")
      ->capture_default_str()
      ->group("Limits");
  AddSeconds(app, "--default-deadline", options.front_end.default_deadline,
             "Deadline in seconds of calls whose client sets none; 0: none");
  AddSeconds(app, "--resume-seconds", options.resume.max_wait,
             "How long a stream whose worker was lost waits for another");
  AddRoutingFlags(app, options);
  AddHttpFlags(app, options.http, options.front_end.compat);
  AddAccessFlags(app, options);
  app.footer(kExamples);
}

}  // namespace
}  // namespace yangtuo::gateway

int main(int argc, char** argv) {
  using yangtuo::gateway::Gateway;
  yangtuo::gateway::GatewayOptions options;
  options.service.listen = "127.0.0.1:50051";
  options.service.admin_listen = "127.0.0.1:9400";
  options.http.listen = "127.0.0.1:8080";
  return yangtuo::RunService(
      {.name = "yangtuo-gateway",
       .description = "The public face of a Yangtuo cluster: text in, text out.",
       .environment_prefix = "YANGTUO_GATEWAY",
       .options = options.service,
       .add_flags = [&](CLI::App& app) { yangtuo::gateway::AddGatewayFlags(app, options); },
       .check = [&] { return yangtuo::gateway::CheckGatewayOptions(options); },
       .start = [&](yangtuo::Metrics& metrics)
           -> absl::StatusOr<std::unique_ptr<yangtuo::RunningService>> {
         auto gateway = Gateway::Start(options, metrics);
         if (!gateway.ok()) {
           return gateway.status();
         }
         return std::make_unique<yangtuo::gateway::RunningGateway>(*std::move(gateway));
       }},
      argc, argv);
}
