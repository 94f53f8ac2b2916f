#include "tools/up/cluster_plan.h"

#include <utility>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

constexpr char kAnyPort[] = "127.0.0.1:0";
constexpr char kGrpc[] = "grpc";
constexpr char kAdmin[] = "admin";
constexpr char kShard[] = "shard";
constexpr char kHttp[] = "http";

std::vector<ListenFlag> ServiceListens(std::string listen, std::string admin_listen) {
  return {{.flag = "--listen", .key = kGrpc, .address = std::move(listen)},
          {.flag = "--admin-listen", .key = kAdmin, .address = std::move(admin_listen)}};
}

PlannedService PlanWorker(const ClusterShape& shape, std::int32_t group, std::int32_t shard) {
  PlannedService worker{
      .name = WorkerName(group, shard),
      .program = shape.programs / "yangtuo-worker",
      .arguments = {"--model", shape.model.string(), "--model-name", shape.model_name, "--threads",
                    absl::StrFormat("%d", shape.threads), "--drain-seconds",
                    absl::StrFormat("%g", shape.drain_seconds)},
      .listens = ServiceListens(kAnyPort, kAnyPort),
      .peers = {},
      .stop_stage = shard == 0 ? StopStage::kLeaders : StopStage::kShards};
  if (!shape.kv_memory.empty()) {
    worker.arguments.insert(worker.arguments.end(), {"--kv-memory", shape.kv_memory});
  }
  if (!shape.kv_type.empty()) {
    worker.arguments.insert(worker.arguments.end(), {"--kv-type", shape.kv_type});
  }
  if (!shape.weight_type.empty()) {
    worker.arguments.insert(worker.arguments.end(), {"--weight-type", shape.weight_type});
  }
  for (const std::string& adapter : shape.adapters) {
    worker.arguments.insert(worker.arguments.end(), {"--adapter", adapter});
  }
  if (shape.shards > 1) {
    worker.arguments.push_back(absl::StrFormat("--shard=%d/%d", shard, shape.shards));
  }
  worker.arguments.insert(worker.arguments.end(), shape.worker_flags.begin(),
                          shape.worker_flags.end());
  if (shard > 0) {
    worker.listens.push_back({.flag = "--shard-listen", .key = kShard, .address = kAnyPort});
  }
  if (shard + 1 < shape.shards) {
    worker.peers.push_back(
        {.flag = "--next", .services = {WorkerName(group, shard + 1)}, .key = kShard});
  }
  return worker;
}

PlannedService PlanTokenizer(const ClusterShape& shape) {
  return {
      .name = kTokenizerName,
      .program = shape.programs / "yangtuo-tokenizer",
      .arguments = {"--model", absl::StrFormat("%s=%s", shape.model_name, shape.tokenizer.string()),
                    "--drain-seconds", absl::StrFormat("%g", shape.drain_seconds)},
      .listens = ServiceListens(kAnyPort, kAnyPort),
      .peers = {},
      .stop_stage = StopStage::kTokenizer};
}

PlannedService PlanGateway(const ClusterShape& shape) {
  PlannedService gateway{
      .name = kGatewayName,
      .program = shape.programs / "yangtuo-gateway",
      .arguments = {"--drain-seconds", absl::StrFormat("%g", shape.drain_seconds)},
      .listens = ServiceListens(shape.listen, shape.admin_listen),
      .peers = {},
      .stop_stage = StopStage::kGateway};
  gateway.listens.push_back({.flag = "--http-listen", .key = kHttp, .address = shape.http_listen});
  gateway.arguments.insert(gateway.arguments.end(), shape.gateway_flags.begin(),
                           shape.gateway_flags.end());
  PeerFlag workers{.flag = "--workers", .services = {}, .key = kGrpc};
  for (std::int32_t group = 0; group < shape.groups; ++group) {
    workers.services.push_back(WorkerName(group, 0));
  }
  gateway.peers = {std::move(workers),
                   {.flag = "--tokenizers", .services = {kTokenizerName}, .key = kGrpc}};
  return gateway;
}

}  // namespace

std::string WorkerName(std::int32_t group, std::int32_t shard) {
  return shard == 0 ? absl::StrFormat("worker %d", group)
                    : absl::StrFormat("worker %d shard %d", group, shard);
}

std::vector<PlannedService> PlanCluster(const ClusterShape& shape) {
  std::vector<PlannedService> services;
  for (std::int32_t group = shape.groups - 1; group >= 0; --group) {
    for (std::int32_t shard = shape.shards - 1; shard >= 0; --shard) {
      services.push_back(PlanWorker(shape, group, shard));
    }
  }
  services.push_back(PlanTokenizer(shape));
  services.push_back(PlanGateway(shape));
  return services;
}

}  // namespace yangtuo
