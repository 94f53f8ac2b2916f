#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/bench_serve/load_plan.h"
#include "tools/common/client.h"

namespace yangtuo::bench_serve {

struct RunOptions {
  ClientOptions client;
  std::string model;
  PlanOptions plan;
  // Without a rate: so many at once, the next begins when one ends.
  std::size_t concurrency = 32;
  // With a rate: more than these at once end the run, as the cluster falls behind for good.
  std::size_t max_outstanding = 1000;
  double timeout_seconds = 300;  // of one request
};

// One request that was sent. Times are seconds since the run began.
struct RequestRecord {
  double due = 0;    // when it was to be sent; latencies count from here
  double begun = 0;  // when it was sent
  double first = 0;  // its first token
  double end = 0;
  std::uint32_t prompt_tokens = 0;
  std::uint32_t cached_tokens = 0;  // of the prompt, as the cluster reports
  std::uint32_t answer_tokens = 0;  // received
  std::vector<double> gaps{};       // seconds between messages with tokens, after the first
  absl::Status status{};
  bool stopped = false;  // by Ctrl-C or a limit of this run, so that it says nothing
};

struct RunResult {
  std::vector<RequestRecord> requests;  // those that were sent, in order
  double seconds = 0;                   // until the last one ended
  absl::Status stopped{};               // why the run ended early; OK: it did not
};

// What a run is doing now.
struct RunProgress {
  std::size_t sent = 0;
  std::size_t ended = 0;
};

// Sends the plan and waits for all answers. Arrivals never wait for answers (when there is a rate).
// `interrupted` becoming true ends it within a fraction of a second; `on_progress` is called a few
// times a second on this thread. INVALID_ARGUMENT for unreadable certificates and keys.
absl::StatusOr<RunResult> RunLoad(const RunOptions& options, const std::atomic<bool>& interrupted,
                                  const std::function<void(const RunProgress&)>& on_progress);

}  // namespace yangtuo::bench_serve
