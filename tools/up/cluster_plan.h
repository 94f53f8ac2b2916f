#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace yangtuo {

// A flag that names an address of our own, and the port file's name for the port that the system
// chose. A restarted process is told the same port again, so that the others find it.
struct ListenFlag {
  std::string flag;
  std::string key;
  std::string address;
};

// A flag that names addresses of other services, which have to be known before this one starts.
struct PeerFlag {
  std::string flag;
  std::vector<std::string> services;
  std::string key;
};

// Services of a lower stage are stopped first.
enum class StopStage { kGateway, kLeaders, kShards, kTokenizer };

// One process of a cluster, as data.
struct PlannedService {
  std::string name;
  std::filesystem::path program;
  std::vector<std::string> arguments;
  std::vector<ListenFlag> listens;
  std::vector<PeerFlag> peers;
  StopStage stop_stage = StopStage::kGateway;
};

struct ClusterShape {
  std::filesystem::path programs;  // the folder of the services
  std::filesystem::path model;
  std::filesystem::path tokenizer;  // the model or adapter whose tokenizer it is
  std::string model_name;
  std::int32_t groups = 1;   // worker groups
  std::int32_t shards = 1;   // processes of a group
  std::int32_t threads = 1;  // compute threads of a worker process
  std::string kv_memory;     // of a worker process; empty: the worker's default
  std::string kv_type;       // likewise
  std::string weight_type;   // likewise
  std::vector<std::string> adapters;
  std::string listen;        // of the gateway
  std::string admin_listen;  // of the gateway
  std::string http_listen;   // of the gateway
  double drain_seconds = 10;
  std::vector<std::string> worker_flags;   // passed on as they are
  std::vector<std::string> gateway_flags;  // likewise
};

// Every process of the cluster, in an order in which peers come before those that name them. Pure.
std::vector<PlannedService> PlanCluster(const ClusterShape& shape);

inline constexpr char kGatewayName[] = "gateway";
inline constexpr char kTokenizerName[] = "tokenizer";
// "worker 0"; "worker 0 shard 1" for those behind the leader.
std::string WorkerName(std::int32_t group, std::int32_t shard);

}  // namespace yangtuo
