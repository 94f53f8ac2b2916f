#include "services/common/rpc_server.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <signal.h>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/impl/server_builder_option.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/admin_server.h"
#include "services/common/call_counter.h"
#include "services/common/listen_address.h"
#include "services/common/port_file.h"
#include "services/common/tls_files.h"

namespace yangtuo {
namespace {

constexpr int kMaxAnswerBytes = 256 << 20;
// No call for so long means that no more are on their way from peers that watch our health.
constexpr Duration kQuietBeforeEnd = std::chrono::milliseconds(50);

// Linking the reflection library adds it to every server of the process; this takes it out again.
class WithoutReflection final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    plugins->erase(std::remove_if(plugins->begin(), plugins->end(),
                                  [](const std::unique_ptr<grpc::ServerBuilderPlugin>& plugin) {
                                    return plugin->name() == "proto_server_reflection";
                                  }),
                   plugins->end());
  }
};

void SetTransportOptions(const ServiceOptions& options, grpc::ServerBuilder& builder) {
  builder.SetMaxReceiveMessageSize(options.max_request_bytes);
  builder.SetMaxSendMessageSize(kMaxAnswerBytes);
  // With port sharing a second process would silently take half of the connections.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // Our clients ping every 10 s, also without a call; gRPC's default would disconnect them.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  // Finds clients that vanished without closing the connection, so that their calls are cancelled.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 20'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}

}  // namespace

// Destruction order matters: the admin server's thread reads the rest, and the calls of `server`
// end in `calls`.
struct RpcServer::State {
  CallCounter calls;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
  std::atomic<bool> drained{false};
  Mutex mutex;
  std::map<std::string, bool> serving ABSL_GUARDED_BY(mutex);
  bool draining ABSL_GUARDED_BY(mutex) = false;
  std::unique_ptr<AdminServer> admin;

  absl::Status Listen(const ServiceOptions& options, const std::vector<grpc::Service*>& services);
  absl::Status StartAdmin(const ServiceOptions& options, Metrics& metrics);
  absl::Status WritePorts(const ServiceOptions& options) const;
  std::vector<std::string> NotReady();
};

absl::Status RpcServer::State::Listen(const ServiceOptions& options,
                                      const std::vector<grpc::Service*>& services) {
  YANGTUO_RETURN_IF_ERROR(ParseListenAddress(options.listen).status());
  YANGTUO_ASSIGN_OR_RETURN(const auto credentials, ServerCredentialsOf(options.tls));
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  }
  grpc::ServerBuilder builder;
  if (!options.reflection) {
    builder.SetOption(std::make_unique<WithoutReflection>());
  }
  SetTransportOptions(options, builder);
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> interceptors;
  interceptors.push_back(calls.NewInterceptorFactory());
  builder.experimental().SetInterceptorCreators(std::move(interceptors));
  builder.AddListeningPort(options.listen, credentials, &port);
  for (grpc::Service* service : services) {
    builder.RegisterService(service);
  }
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    server = nullptr;
    YANGTUO_RETURN_IF_ERROR(ExplainListenFailure("gRPC", options.listen));
    return absl::InternalError(absl::StrFormat(
        "gRPC does not start on %s although the port is free; its own log lines say why",
        options.listen));
  }
  return absl::OkStatus();
}

absl::Status RpcServer::State::StartAdmin(const ServiceOptions& options, Metrics& metrics) {
  if (options.admin_listen.empty()) {
    return absl::OkStatus();
  }
  Gauge& ready = metrics.AddGauge("yangtuo_ready", "1 while /readyz answers 200");
  AdminServer::Sources sources{.metrics =
                                   [this, &metrics, &ready] {
                                     ready.Set(NotReady().empty() ? 1 : 0);
                                     return metrics.Expose();
                                   },
                               .not_ready = [this] { return NotReady(); }};
  YANGTUO_ASSIGN_OR_RETURN(
      admin, AdminServer::Start(options.admin_listen, std::move(sources), AdminServer::Limits{}));
  return absl::OkStatus();
}

absl::Status RpcServer::State::WritePorts(const ServiceOptions& options) const {
  if (options.port_file.empty()) {
    return absl::OkStatus();
  }
  PortFile ports = options.other_ports;
  ports["grpc"] = port;
  if (admin != nullptr) {
    ports["admin"] = admin->port();
  }
  ports["pid"] = static_cast<int>(getpid());
  return WritePortFile(options.port_file, ports);
}

std::vector<std::string> RpcServer::State::NotReady() {
  const MutexLock lock(mutex);
  std::vector<std::string> names;
  if (draining) {
    names.emplace_back("draining");
  }
  for (const auto& [name, is_serving] : serving) {
    if (!is_serving) {
      names.push_back(name);
    }
  }
  return names;
}

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Start(
    const ServiceOptions& options, const std::vector<grpc::Service*>& services,
    const std::vector<std::string>& health_names, Metrics& metrics) {
  auto state = std::make_unique<State>();
  {
    const MutexLock lock(state->mutex);
    for (const std::string& name : health_names) {
      state->serving[name] = false;
    }
  }
  // The admin port first: when it is taken, no client has seen the gRPC port yet.
  YANGTUO_RETURN_IF_ERROR(state->StartAdmin(options, metrics));
  YANGTUO_RETURN_IF_ERROR(state->Listen(options, services));
  std::unique_ptr<RpcServer> server(new RpcServer(std::move(state)));
  for (const std::string& name : health_names) {
    server->state_->server->GetHealthCheckService()->SetServingStatus(name, false);
  }
  YANGTUO_RETURN_IF_ERROR(server->state_->WritePorts(options));
  return server;
}

RpcServer::RpcServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

RpcServer::~RpcServer() { Drain(Duration::zero()); }

int RpcServer::port() const { return state_->port; }

int RpcServer::admin_port() const { return state_->admin == nullptr ? 0 : state_->admin->port(); }

void RpcServer::SetServing(const std::string& health_name, bool serving) {
  // The health service is told under the lock, so that it sees changes in the order of the map.
  const MutexLock lock(state_->mutex);
  const auto found = state_->serving.find(health_name);
  const bool changed = found == state_->serving.end() || found->second != serving;
  state_->serving[health_name] = serving;
  if (changed && !state_->draining) {
    state_->server->GetHealthCheckService()->SetServingStatus(health_name, serving);
  }
}

void RpcServer::Drain(Duration limit) {
  if (state_->drained.exchange(true)) {
    return;
  }
  const TimePoint begin = SteadyClock().Now();
  grpc::Server& server = *state_->server;
  {
    const MutexLock lock(state_->mutex);
    state_->draining = true;
    for (const auto& [name, serving] : state_->serving) {
      server.GetHealthCheckService()->SetServingStatus(name, false);
    }
  }
  state_->calls.WaitUntilIdle(kQuietBeforeEnd, begin + limit);
  // The port stays open until here: services refuse what is new in words of their own. A deadline
  // that has passed makes gRPC cancel what is left (watchers never end by themselves) after it has
  // begun to shut down; cancelling from another thread meanwhile corrupts its reference counts.
  server.Shutdown(std::chrono::system_clock::now());
}

void BlockTerminationSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

}  // namespace yangtuo
