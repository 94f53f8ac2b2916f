#pragma once

#include <functional>

#include "absl/status/status.h"
#include "inference_core/base/clock.h"
#include "inference_core/engine/engine.h"
#include "services/common/metrics.h"

namespace yangtuo {

// What a worker counts. Thread-safe; `metrics` outlives it.
class WorkerMetrics {
 public:
  explicit WorkerMetrics(Metrics& metrics);

  // Engine thread, after every step.
  void ObserveStep(const StepStats& step);
  // Gauges are read from the engine's load whenever somebody scrapes. Called once, when the engine
  // is there; `read` is called until the admin port is gone.
  void ReadLoadFrom(std::function<EngineLoad()> read);
  // Whether the neighbour in the chain of shards is connected; `peer` is "next" or "previous".
  void ReadShardUpFrom(const char* peer, std::function<bool()> read);

  // One request's life.
  void RequestAccepted(std::int64_t prompt_tokens) {
    prompt_tokens_.Add(static_cast<double>(prompt_tokens));
  }
  void FirstToken(Duration since_arrival) { ttft_.Observe(ToSeconds(since_arrival)); }
  void NextToken(Duration since_token) { inter_token_.Observe(ToSeconds(since_token)); }
  void TokensGenerated(std::int64_t tokens) { generation_tokens_.Add(static_cast<double>(tokens)); }
  void RequestQueued(Duration queue) { queue_.Observe(ToSeconds(queue)); }
  void RequestEnded(const absl::Status& status, Duration since_arrival);

 private:
  Metrics& metrics_;
  Counter& prompt_tokens_;
  Counter& generation_tokens_;
  Counter& preemptions_;
  Counter& prefix_queries_;
  Counter& prefix_hits_;
  Counter& prefix_evictions_;
  Histogram& queue_;
  Histogram& ttft_;
  Histogram& inter_token_;
  Histogram& e2e_;
  Histogram& batch_size_;
  Histogram& step_;
  Histogram& shard_sync_;
};

}  // namespace yangtuo
