#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "tools/bench_gateway/token_producer.h"

namespace yangtuo::bench_gateway {

// One load for some seconds.
struct StepOptions {
  std::size_t streams = 1000;
  double tokens_per_second = 20;  // of one stream
  double warmup_seconds = 2;
  double measured_seconds = 5;
  // Server-sent events of the HTTP API instead of gRPC streams.
  bool http = false;
  // With `http`: further clients that begin a stream each and stop reading it, or vanish.
  std::size_t bad_clients = 0;
};

// What came of it.
struct StepResult {
  StepOptions options;
  double produced_per_second = 0;   // by the producer, while measured
  double delivered_per_second = 0;  // to the clients, while measured
  double gateway_cores = 0;         // processor time over wall time; 0 when not known
  double tokenizer_cores = 0;
  double gateway_bytes_per_stream = 0;  // resident, beyond what it takes when idle; 0: not known
  double tokenizer_bytes_per_stream = 0;
  double delay_p50 = 0;  // seconds, of measured tokens
  double delay_p99 = 0;
  double delay_max = 0;
  std::uint64_t tokens_wrong = 0;
  std::size_t streams_failed = 0;
  std::string first_error{};

  // Nothing lost, and the delays did not grow without bound.
  [[nodiscard]] bool sustained() const;
};

// Where the load goes.
struct LoadTarget {
  std::string gateway;
  std::string model;
  std::vector<std::uint32_t> ids;  // tokens to draw from
  // For StepOptions::http: the HTTP API's address, and the ids' texts.
  std::string http{};
  std::map<std::uint32_t, std::string> texts{};
  TokenProducer* producer = nullptr;
  // Processor seconds used so far; may be empty.
  std::function<double()> gateway_cpu{};
  std::function<double()> tokenizer_cpu{};
  // Resident bytes beyond those of the idle process; may be empty.
  std::function<double()> gateway_bytes{};
  std::function<double()> tokenizer_bytes{};
};

// Waits until the gateway serves the target's model. UNAVAILABLE when it does not.
absl::Status WaitForModel(const LoadTarget& target);

// UNAVAILABLE when the streams cannot be opened.
absl::StatusOr<StepResult> RunStep(const LoadTarget& target, const StepOptions& options);

}  // namespace yangtuo::bench_gateway
