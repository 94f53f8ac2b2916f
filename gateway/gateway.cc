#include "gateway/gateway.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "gateway/access/access_control.h"
#include "gateway/access/audit_log.h"
#include "gateway/http_front_end.h"
#include "gateway/timers.h"
#include "inference_core/base/status_macros.h"
#include "services/common/api_keys.h"
#include "services/common/listen_address.h"
#include "services/common/log.h"
#include "services/common/rpc_server.h"

namespace yangtuo::gateway {
namespace {

// 16 MiB of text, as over HTTP, and what is around it.
constexpr int kMaxGrpcRequestBytes = 17 << 20;
constexpr char kHealthName[] = "yangtuo.v1.GenerationService";
constexpr Duration kTick = std::chrono::milliseconds(100);
// How soon a change of the API keys is noticed.
constexpr Duration kFilePeriod = std::chrono::seconds(1);
constexpr Duration kLastCallLimit = std::chrono::seconds(5);
// After the last request: for trailers, and for clients that read slowly.
constexpr Duration kCallsEnd = std::chrono::seconds(2);

absl::StatusOr<std::vector<PeerTarget>> ParseTargets(const char* flag,
                                                     const std::vector<std::string>& targets) {
  if (targets.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s is missing: give the address of at least one (%s=127.0.0.1:50053)", flag, flag));
  }
  std::vector<PeerTarget> parsed;
  for (const std::string& target : targets) {
    auto one = ParsePeerTarget(target);
    if (!one.ok()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: %s", flag, std::string(one.status().message())));
    }
    parsed.push_back(*std::move(one));
  }
  return parsed;
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}
bool IsAnyAddress(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

// Everybody who reaches the address that clients use would reach metrics and health there too.
absl::Status CheckAdminAddress(const GatewayOptions& options) {
  if (options.admin_on_public_address || options.service.admin_listen.empty()) {
    return absl::OkStatus();
  }
  YANGTUO_ASSIGN_OR_RETURN(const ListenAddress admin,
                           ParseListenAddress(options.service.admin_listen));
  for (const std::string& listen : {options.service.listen, options.http.listen}) {
    if (listen.empty()) {
      continue;
    }
    YANGTUO_ASSIGN_OR_RETURN(const ListenAddress clients, ParseListenAddress(listen));
    const bool same =
        admin.host == clients.host || IsAnyAddress(admin.host) || IsAnyAddress(clients.host);
    if (same && !IsLoopback(admin.host) && !IsLoopback(clients.host)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the admin port %s would be reachable at the address for clients (%s), which would show "
          "them metrics: choose another --admin-listen, such as 127.0.0.1:9400, or, where a "
          "firewall or network policy keeps clients from it, say --admin-on-public-address",
          options.service.admin_listen, listen));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckAccess(const GatewayOptions& options) {
  if (options.audit_prompts && options.audit_log.empty()) {
    return absl::InvalidArgumentError("--audit-prompts needs --audit-log");
  }
  if (!options.api_keys_file.empty()) {
    YANGTUO_RETURN_IF_ERROR(ReadApiKeysFile(options.api_keys_file).status());
  }
  return CheckAdminAddress(options);
}

}  // namespace

absl::Status CheckGatewayOptions(const GatewayOptions& options) {
  YANGTUO_RETURN_IF_ERROR(ParseTargets("--workers", options.workers).status());
  YANGTUO_RETURN_IF_ERROR(ParseTargets("--tokenizers", options.tokenizers).status());
  if (options.admission.max_requests == 0 || options.admission.max_tokens == 0) {
    return absl::InvalidArgumentError(
        "--max-requests and --max-tokens must be at least 1: with 0 every request is refused");
  }
  if (options.limits.max_choices == 0 || options.limits.max_choices > 16) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--max-n is %u, must be in 1..16", options.limits.max_choices));
  }
  if (!options.http.listen.empty()) {
    YANGTUO_RETURN_IF_ERROR(ParseListenAddress(options.http.listen).status());
  }
  return CheckAccess(options);
}

// In order of construction; what is below uses what is above.
struct Gateway::State {
  struct Access {
    std::unique_ptr<AccessControl> control;
    std::unique_ptr<AuditLog> audit;  // null: none
  };

  State(const GatewayOptions& options, std::unique_ptr<Tracer> spans, Metrics& all_metrics,
        Access the_access)
      : tracer(std::move(spans)),
        metrics(all_metrics),
        access(std::move(the_access)),
        admission(options.admission),
        workers(options.service.peer_tls, options.routing, *calls, metrics),
        tokenizers(TokenizerPool::Create(
            {.tls = options.service.peer_tls, .stream_limit = options.tokenizer_wait}, *calls,
            metrics.retries("tokenizer"))),
        services{.workers = workers,
                 .tokenizers = *tokenizers,
                 .admission = admission,
                 .timers = timers,
                 .compiling = compiling,
                 .metrics = metrics,
                 .access = *access.control,
                 .audit = access.audit.get(),
                 .limits = options.limits,
                 .resume = options.resume,
                 .queue = options.queue,
                 .tracer = *tracer,
                 .grammars = grammars},
        front_end(services, options.front_end),
        http_front_end(services, options.front_end, [this] { return ready && !draining; }) {}

  // Pools and readiness, ten times a second, on the timers' thread.
  void Tick() {
    const TimePoint now = std::chrono::steady_clock::now();
    workers.Tick(now);
    tokenizers->Tick(now);
    UpdateReadiness();
    if (now >= next_look_at_files) {
      next_look_at_files = now + kFilePeriod;
      access.control->ReloadIfChanged(now);
      if (access.audit != nullptr) {
        access.audit->ReopenIfMoved();
      }
    }
    timers.After(kTick, [this] { Tick(); });
  }

  void UpdateReadiness() {
    bool any = false;
    std::map<std::string, std::uint32_t> ready_groups;
    for (const auto& [name, model] : workers.Models()) {
      ready_groups[name] = model.ready_groups;
      any = any ||
            (model.ready_groups > 0 && tokenizers->Has(model.status->tokenizer_digest(), name));
    }
    metrics.SetWorkersReady(ready_groups);
    metrics.SetWorkersUp(workers.Up());
    metrics.SetTokenizersUp(tokenizers->Up());
    metrics.SetWorkersEjected(workers.Ejected());
    metrics.tokens_admitted().Set(static_cast<double>(admission.tokens()));
    const bool serving = any && !draining;
    if (ready.exchange(serving) != serving) {
      Log(LogLevel::kInfo, serving ? "ready" : "not ready",
          {{"reason", serving ? "a model has a worker group and a tokenizer"
                      : any   ? "shutting down"
                              : "no model has both a ready worker group and a tokenizer"}});
      server->SetServing(kHealthName, serving);
    }
  }

  const std::unique_ptr<Tracer> tracer;
  GatewayMetrics metrics;
  const Access access;
  TimePoint next_look_at_files{};  // for Tick
  const std::shared_ptr<LiveCalls> calls = std::make_shared<LiveCalls>();
  Timers timers;
  Timers compiling;
  Admission admission;
  WorkerPool workers;
  const std::shared_ptr<TokenizerPool> tokenizers;
  GrammarCache grammars;
  FlowServices services;
  GrpcFrontEnd front_end;
  HttpFrontEnd http_front_end;
  std::atomic<bool> ready = false;
  std::atomic<bool> draining = false;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<HttpServer> http;  // null: off
  std::unique_ptr<PeerDiscovery> worker_discovery;
  std::unique_ptr<PeerDiscovery> tokenizer_discovery;
};

absl::StatusOr<std::unique_ptr<Gateway>> Gateway::Start(const GatewayOptions& options,
                                                        Metrics& metrics) {
  YANGTUO_RETURN_IF_ERROR(CheckGatewayOptions(options));
  YANGTUO_ASSIGN_OR_RETURN(auto worker_targets, ParseTargets("--workers", options.workers));
  YANGTUO_ASSIGN_OR_RETURN(auto tokenizer_targets,
                           ParseTargets("--tokenizers", options.tokenizers));
  State::Access access;
  YANGTUO_ASSIGN_OR_RETURN(access.control, AccessControl::Open(options.api_keys_file, metrics,
                                                               std::chrono::steady_clock::now()));
  if (!options.audit_log.empty()) {
    const auto prompts =
        options.audit_prompts ? AuditLog::Prompts::kWritten : AuditLog::Prompts::kLeftOut;
    YANGTUO_ASSIGN_OR_RETURN(access.audit, AuditLog::Open(options.audit_log, prompts, metrics));
  }
  YANGTUO_ASSIGN_OR_RETURN(auto tracer,
                           Tracer::Start(options.service.tracing, "yangtuo-gateway", metrics));
  auto state = std::make_unique<State>(options, std::move(tracer), metrics, std::move(access));
  ServiceOptions service = options.service;
  service.max_request_bytes = kMaxGrpcRequestBytes;
  if (!options.http.listen.empty()) {
    HttpOptions http = options.http;
    http.tls = service.tls;
    http.limits.all_body_bytes = std::max(http.limits.all_body_bytes, http.limits.body_bytes);
    HttpFrontEnd& front_end = state->http_front_end;
    YANGTUO_ASSIGN_OR_RETURN(
        state->http,
        HttpServer::Start(
            http, {.handle =
                       [&front_end](const HttpRequest& request,
                                    const std::shared_ptr<HttpExchange>& exchange) {
                         front_end.Handle(request, exchange);
                       },
                   .admit = [&front_end](const HttpRequest& head) { return front_end.Admit(head); },
                   .refuse = HttpFrontEnd::Refuse}));
    service.other_ports["http"] = state->http->port();
  }
  YANGTUO_ASSIGN_OR_RETURN(state->server,
                           RpcServer::Start(service, {&state->front_end}, {kHealthName}, metrics));
  state->worker_discovery = std::make_unique<PeerDiscovery>(
      PeerDiscovery::Options{.targets = std::move(worker_targets),
                             .period = options.resolve_period,
                             .resolver = options.resolver},
      [workers = &state->workers](const auto& peers) { workers->SetPeers(peers); });
  state->tokenizer_discovery = std::make_unique<PeerDiscovery>(
      PeerDiscovery::Options{.targets = std::move(tokenizer_targets),
                             .period = options.resolve_period,
                             .resolver = options.resolver},
      [tokenizers = state->tokenizers.get()](const auto& peers) { tokenizers->SetPeers(peers); });
  state->timers.After(Duration{}, [state = state.get()] { state->Tick(); });
  return std::unique_ptr<Gateway>(new Gateway(std::move(state)));
}

Gateway::Gateway(std::unique_ptr<State> state) : state_(std::move(state)) {}

Gateway::~Gateway() {
  // Flows first, while everything they use still works; then their peers.
  if (!state_->draining) {
    state_->server->Drain(Duration{});
  }
  state_->http.reset();
  state_->worker_discovery.reset();
  state_->tokenizer_discovery.reset();
  state_->compiling.Stop();
  state_->timers.Stop();
  state_->server.reset();
  state_->workers.Close();
  state_->tokenizers->Close();
  if (!state_->calls->WaitForNone(kLastCallLimit)) {
    Log(LogLevel::kError, "calls to peers did not end");
  }
}

void Gateway::Drain(Duration limit) {
  const TimePoint deadline = SteadyClock().Now() + limit;
  state_->draining = true;
  state_->server->SetServing(kHealthName, false);
  if (state_->http != nullptr) {
    state_->http->BeginDrain();
  }
  // New requests are refused from here on, so waiting for those that are in comes to an end however
  // many clients go on asking: their connections know nothing of health.
  state_->admission.Close();
  if (!state_->admission.WaitUntilEmpty(deadline)) {
    Log(LogLevel::kWarning, "drain limit reached, cancelling what still runs");
  }
  std::thread http_drain;
  if (state_->http != nullptr) {
    http_drain = std::thread([this] { state_->http->Drain(kCallsEnd); });
  }
  state_->server->Drain(kCallsEnd);
  if (http_drain.joinable()) {
    http_drain.join();
  }
}

int Gateway::port() const { return state_->server->port(); }
int Gateway::http_port() const { return state_->http != nullptr ? state_->http->port() : 0; }
int Gateway::admin_port() const { return state_->server->admin_port(); }
const Admission& Gateway::admission() const { return state_->admission; }
bool Gateway::ready() const { return state_->ready; }

}  // namespace yangtuo::gateway
