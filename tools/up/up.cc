#include "tools/up/up.h"

#include <algorithm>
#include <memory>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/status_macros.h"
#include "services/common/listen_address.h"
#include "tools/common/terminal.h"
#include "tools/up/cluster.h"
#include "tools/up/model_folder.h"
#include "tools/up/run_folder.h"
#include "tools/up/summary.h"

namespace yangtuo {
namespace {

int Fail(const absl::Status& status) {
  const Terminal terminal = Terminal::LookAt(STDERR_FILENO);
  WriteAll(STDERR_FILENO, terminal.Bad("yangtuo up: ") + std::string(status.message()) +
                              (status.message().back() == '\n' ? "" : "\n"));
  return 1;
}

absl::Status CheckPrograms(const std::filesystem::path& folder) {
  for (const char* program : {"yangtuo-worker", "yangtuo-tokenizer", "yangtuo-gateway"}) {
    if (access((folder / program).c_str(), X_OK) != 0) {
      return absl::NotFoundError(
          absl::StrFormat("there is no program %s beside this one in %s: build or install it there",
                          program, folder.string()));
    }
  }
  return absl::OkStatus();
}

// The user hears about a port in use before any model is loaded.
absl::Status CheckListen(const std::string& listen) {
  const absl::Status status = ExplainListenFailure("gateway", listen);
  if (status.ok()) {
    return status;
  }
  if (const auto folder = StateFolder(); folder.ok()) {
    for (const ClusterState& cluster : RunningClusters(*folder)) {
      if (cluster.gateway == listen) {
        return absl::UnavailableError(
            absl::StrFormat("a cluster of yours (pid %d, %s) listens on %s already: stop it (kill "
                            "%d), or give this "
                            "one another address with --listen 127.0.0.1:0",
                            cluster.pid, cluster.model, listen, cluster.pid));
      }
    }
  }
  return absl::Status(status.code(), absl::StrFormat("%s; choose another address with --listen "
                                                     "(127.0.0.1:0 takes a free port)",
                                                     std::string(status.message())));
}

absl::StatusOr<std::filesystem::path> StateFileOf(const UpOptions& options) {
  if (!options.state_file.empty()) {
    return std::filesystem::path(options.state_file);
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::filesystem::path folder, StateFolder());
  return folder / absl::StrFormat("up-%d.json", getpid());
}

// The last adapter's that brings one, else the model's own.
std::filesystem::path TokenizerOf(const ClusterShape& shape) {
  std::filesystem::path found = shape.model;
  for (const std::string& adapter : shape.adapters) {
    std::error_code error;
    if (std::filesystem::exists(std::filesystem::path(adapter) / "tokenizer.model", error)) {
      found = adapter;
    }
  }
  return found;
}

std::string HttpListenOf(const UpOptions& options) {
  if (!options.http_listen.empty()) {
    return options.http_listen;
  }
  const auto grpc = ParseListenAddress(options.listen);
  return grpc.ok() && grpc->port == 0 ? "127.0.0.1:0" : "127.0.0.1:8080";
}

absl::StatusOr<ClusterOptions> Prepare(const UpOptions& options) {
  ClusterOptions cluster;
  ClusterShape& shape = cluster.shape;
  shape.programs = ProgramFolder();
  YANGTUO_ASSIGN_OR_RETURN(shape.model, FindModelFolder(options.model, shape.programs));
  YANGTUO_RETURN_IF_ERROR(CheckPrograms(shape.programs));
  YANGTUO_RETURN_IF_ERROR(CheckListen(options.listen));
  if (const absl::Status http = ExplainListenFailure("HTTP", HttpListenOf(options)); !http.ok()) {
    return absl::Status(http.code(), absl::StrFormat("%s; choose another address with "
                                                     "--http-listen (port 0: any free one)",
                                                     std::string(http.message())));
  }
  shape.model_name =
      options.model_name.empty() ? shape.model.filename().string() : options.model_name;
  shape.groups = options.workers;
  shape.shards = options.shards;
  const std::int32_t processes = options.workers * options.shards;
  shape.threads = options.threads > 0 ? options.threads
                                      : std::max(1, GetCpuLimits().compute_threads() / processes);
  shape.kv_memory = options.kv_memory;
  shape.kv_type = options.kv_type;
  shape.weight_type = options.weight_type;
  shape.adapters = options.adapters;
  shape.tokenizer = TokenizerOf(shape);
  shape.listen = options.listen;
  shape.admin_listen = options.admin_listen;
  shape.http_listen = HttpListenOf(options);
  shape.drain_seconds = options.drain_seconds;
  shape.worker_flags = options.worker_flags;
  shape.gateway_flags = options.gateway_flags;
  YANGTUO_ASSIGN_OR_RETURN(cluster.supervisor.folder, MakeRunFolder(options.log_folder));
  cluster.supervisor.start_limit = options.start_limit;
  // A little more than the services give themselves.
  cluster.supervisor.stop_limit = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(options.drain_seconds + 5));
  YANGTUO_ASSIGN_OR_RETURN(cluster.state_file, StateFileOf(options));
  cluster.port_file = options.port_file;
  cluster.follow_logs = options.verbose;
  cluster.ready_limit = options.start_limit;
  return cluster;
}

void Announce(const ClusterOptions& options, const Cluster& cluster, TimePoint begin) {
  const ClusterState state = cluster.State();
  ClusterSummary summary{.state = state,
                         .http = cluster.HttpAddress(),
                         .models = {},
                         .threads = options.shape.threads,
                         .seconds = ToSeconds(std::chrono::steady_clock::now() - begin)};
  const auto client = Client::Create({.server = state.gateway, .tls = {}});
  if (client.ok()) {
    // A gateway with TLS does not tell us its models; everything else is known without it.
    if (auto models = (*client)->ListModels(); models.ok()) {
      summary.models = *std::move(models);
    }
  }
  WriteAll(STDOUT_FILENO, FormatSummary(summary));
}

absl::Status StartAndRun(const ClusterOptions& options, Cluster& cluster, TimePoint begin) {
  YANGTUO_ASSIGN_OR_RETURN(const Cluster::Outcome outcome, cluster.Start());
  if (outcome == Cluster::Outcome::kInterrupted) {
    return absl::OkStatus();
  }
  Announce(options, cluster, begin);
  return cluster.Run();
}

}  // namespace

int RunUp(const UpOptions& options) {
  const TimePoint begin = std::chrono::steady_clock::now();
  SignalInbox signals;
  const absl::StatusOr<ClusterOptions> prepared = Prepare(options);
  if (!prepared.ok()) {
    return Fail(prepared.status());
  }
  const ClusterShape& shape = prepared->shape;
  const Terminal terminal = Terminal::LookAt(STDOUT_FILENO);
  WriteAll(
      STDOUT_FILENO,
      absl::StrFormat("%s from %s: %d worker group%s of %d process%s with %d thread%s each\n",
                      terminal.Bold(shape.model_name), shape.model.string(), shape.groups,
                      shape.groups == 1 ? "" : "s", shape.shards, shape.shards == 1 ? "" : "es",
                      shape.threads, shape.threads == 1 ? "" : "s"));
  Cluster cluster(*prepared, signals, terminal);
  const absl::Status status = StartAndRun(*prepared, cluster, begin);
  const int code = status.ok() ? 0 : Fail(status);
  WriteAll(STDOUT_FILENO, "\nstopping (running answers have " +
                              absl::StrFormat("%g s to end; Ctrl-C again stops at once)\n",
                                              options.drain_seconds));
  cluster.Stop();
  WriteAll(STDOUT_FILENO, "stopped\n");
  return code;
}

}  // namespace yangtuo
