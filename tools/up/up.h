#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "inference_core/base/clock.h"
#include "tools/common/client.h"

namespace yangtuo {

struct UpOptions {
  std::string model;  // folder, or the name of a model that comes along; empty: the embedded one
  std::string model_name;    // public name; empty: the folder's
  std::int32_t workers = 1;  // worker groups
  std::int32_t shards = 1;   // processes of a group
  std::string listen = kDefaultServer;
  std::string admin_listen = "127.0.0.1:0";  // of the gateway
  // Of the gateway; empty: port 8080 of loopback, or any free one when `listen` says port 0.
  std::string http_listen;
  std::int32_t threads = 0;           // of a worker process; 0: the cores divided by them
  std::string kv_memory;              // of a worker process; empty: its default
  std::string kv_type;                // likewise
  std::string weight_type;            // likewise
  std::vector<std::string> adapters;  // merged into the model while it is read
  std::string port_file;
  std::string state_file;  // empty: in the state folder
  std::string log_folder;  // empty: a new one
  bool verbose = false;    // the services' logs on standard error as well
  double drain_seconds = 10;
  Duration start_limit = std::chrono::seconds(300);
  std::vector<std::string> worker_flags;
  std::vector<std::string> gateway_flags;
};

// `yangtuo up`: runs a cluster until Ctrl-C; returns the exit code.
int RunUp(const UpOptions& options);

}  // namespace yangtuo
