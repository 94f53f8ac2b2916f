#pragma once

#include <cstddef>
#include <cstdint>
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

// N clients of one gateway, each with one Generate stream, driven by reactions over a few
// connections.
class LoadClients {
 public:
  struct Options {
    std::string gateway;  // "host:port"
    std::string model;
    std::shared_ptr<TokenPlan> plan;
    // Delays are kept of tokens from this position on, when the load is steady.
    std::size_t first_measured = 0;
  };

  static std::unique_ptr<LoadClients> Start(const Options& options);
  ~LoadClients();
  LoadClients(const LoadClients&) = delete;
  LoadClients& operator=(const LoadClients&) = delete;

  // Streams that have ended, well or not.
  [[nodiscard]] std::size_t ended() const;
  [[nodiscard]] std::uint64_t tokens_received() const;

  // Waits for all streams; those that have not ended after `limit` are cancelled and count as
  // failed.
  LoadReport Finish(Duration limit);

 private:
  struct State;
  explicit LoadClients(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo::bench_gateway
