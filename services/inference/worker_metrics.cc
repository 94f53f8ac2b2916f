#include "services/inference/worker_metrics.h"

#include <string>
#include <utility>
#include <vector>

namespace yangtuo {
namespace {

const std::vector<double>& StepBuckets() {
  static const std::vector<double> buckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                              0.1,    0.25,  0.5,    1,     2.5,  5,     10};
  return buckets;
}

}  // namespace

WorkerMetrics::WorkerMetrics(Metrics& metrics)
    : metrics_(metrics),
      prompt_tokens_(
          metrics.AddCounter("yangtuo_prompt_tokens_total", "Prompt tokens of accepted requests.")),
      generation_tokens_(
          metrics.AddCounter("yangtuo_generation_tokens_total", "Tokens generated.")),
      preemptions_(metrics.AddCounter("yangtuo_preemptions_total",
                                      "Sequences put back because KV blocks ran out.")),
      prefix_queries_(metrics.AddCounter(
          "yangtuo_prefix_cache_queries_total",
          "Tokens that could have been found in KV blocks of earlier requests.")),
      prefix_hits_(metrics.AddCounter("yangtuo_prefix_cache_hits_total",
                                      "Those of them that were, and need not be computed.")),
      prefix_evictions_(metrics.AddCounter("yangtuo_prefix_cache_evictions_total",
                                           "Reusable KV blocks taken for something else.")),
      queue_(metrics.AddHistogram("yangtuo_queue_seconds",
                                  "From a request's arrival to its first computation.",
                                  RequestSecondsBuckets())),
      ttft_(metrics.AddHistogram("yangtuo_ttft_seconds",
                                 "From a request's arrival to its first token.",
                                 TimeToFirstTokenBuckets())),
      inter_token_(metrics.AddHistogram("yangtuo_inter_token_seconds",
                                        "Between two tokens of one stream.", InterTokenBuckets())),
      e2e_(metrics.AddHistogram("yangtuo_e2e_seconds", "From a request's arrival to its end.",
                                RequestSecondsBuckets())),
      batch_size_(metrics.AddHistogram("yangtuo_batch_size", "Sequences computed in one step.",
                                       {1, 2, 4, 8, 16, 32, 64, 128, 256})),
      step_(metrics.AddHistogram("yangtuo_step_seconds", "One step, from submission to result.",
                                 StepBuckets())),
      shard_sync_(metrics.AddHistogram("yangtuo_shard_sync_seconds",
                                       "Waiting for other shards' results, per step.",
                                       StepBuckets())) {}

void WorkerMetrics::ObserveStep(const StepStats& step) {
  batch_size_.Observe(step.sequences);
  step_.Observe(ToSeconds(step.total));
  shard_sync_.Observe(ToSeconds(step.wait));
  const auto count = [](Counter& counter, std::int32_t events) {
    if (events > 0) {
      counter.Add(events);
    }
  };
  count(preemptions_, step.preempted);
  count(prefix_queries_, step.prefix_queries);
  count(prefix_hits_, step.prefix_hits);
  count(prefix_evictions_, step.evictions);
}

void WorkerMetrics::ReadLoadFrom(std::function<EngineLoad()> read) {
  Gauge& running = metrics_.AddGauge("yangtuo_requests_running", "Requests being computed.");
  Gauge& waiting = metrics_.AddGauge("yangtuo_requests_waiting", "Requests in the queue.");
  Gauge& usage = metrics_.AddGauge("yangtuo_kv_cache_usage_ratio", "KV blocks in use, 0 to 1.");
  Gauge& used = metrics_.AddGauge("yangtuo_kv_blocks_used", "KV blocks in use.");
  Gauge& total = metrics_.AddGauge("yangtuo_kv_blocks", "KV blocks there are.");
  Gauge& cached = metrics_.AddGauge("yangtuo_prefix_cache_blocks",
                                    "KV blocks not in use whose content requests can find.");
  metrics_.OnCollect([read = std::move(read), &running, &waiting, &usage, &used, &total, &cached] {
    const EngineLoad load = read();
    const int in_use = load.kv_blocks_total - load.kv_blocks_free;
    running.Set(load.running);
    waiting.Set(load.waiting);
    used.Set(in_use);
    total.Set(load.kv_blocks_total);
    cached.Set(load.kv_blocks_cached);
    usage.Set(load.kv_blocks_total == 0
                  ? 0.0
                  : static_cast<double>(in_use) / static_cast<double>(load.kv_blocks_total));
  });
}

void WorkerMetrics::ReadShardUpFrom(const char* peer, std::function<bool()> read) {
  Gauge& up = metrics_.AddGauge("yangtuo_shard_up", "1 while the neighbouring shard is connected.",
                                {{"peer", peer}});
  metrics_.OnCollect([read = std::move(read), &up] { up.Set(read() ? 1 : 0); });
}

void WorkerMetrics::RequestEnded(const absl::Status& status, Duration since_arrival) {
  metrics_
      .AddCounter("yangtuo_requests_total", "Requests by the code they ended with.",
                  {{"code", absl::StatusCodeToString(status.code())}})
      .Add();
  e2e_.Observe(ToSeconds(since_arrival));
}

}  // namespace yangtuo
