#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "tools/bench_gateway/token_plan.h"

namespace yangtuo::bench_gateway {

// What all clients of a run saw.
struct LoadReport {
  std::size_t streams_ok = 0;      // ended with OK and every planned token
  std::size_t streams_failed = 0;  // ended otherwise
  std::string first_error;         // of the first that failed
  std::uint64_t tokens = 0;        // received in place
  std::uint64_t tokens_wrong = 0;  // lost, repeated or misdirected
  std::vector<float> delays;       // seconds from producer to client, of the measured tokens
};

// N clients of one gateway, each with one stream, driven by reactions.
class LoadClients {
 public:
  struct Options {
    std::string gateway;  // "host:port"; of the HTTP API for StartSse
    std::string model;
    std::shared_ptr<TokenPlan> plan;
    // Delays are kept of tokens from this position on, when the load is steady.
    std::size_t first_measured = 0;
    // For StartSse: the text of every token of the plan.
    std::map<std::uint32_t, std::string> texts = {};
    // For StartSse: the last so many streams of the plan belong to clients that begin and then stop
    // reading, or close their connection, in turn. They are not in the report.
    std::size_t bad_clients = 0;
  };

  // Generate calls over a few connections.
  static std::unique_ptr<LoadClients> StartGrpc(const Options& options);
  // Server-sent events of /v1/completions, a connection each.
  static std::unique_ptr<LoadClients> StartSse(const Options& options);

  virtual ~LoadClients() = default;
  LoadClients(const LoadClients&) = delete;
  LoadClients& operator=(const LoadClients&) = delete;

  // Streams that have ended, well or not.
  [[nodiscard]] virtual std::size_t ended() const = 0;
  [[nodiscard]] virtual std::uint64_t tokens_received() const = 0;

  // Waits for all streams; those that have not ended after `limit` are cancelled and count as
  // failed.
  virtual LoadReport Finish(Duration limit) = 0;

 protected:
  LoadClients() = default;
};

}  // namespace yangtuo::bench_gateway
