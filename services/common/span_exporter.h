#pragma once

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/metrics.h"
#include "services/common/otlp_client.h"
#include "services/common/otlp_json.h"

namespace yangtuo {

// Carries ended spans to a collector, in batches, on a thread of its own. What cannot be sent is
// dropped and counted: nobody who serves a request ever waits for it.
class SpanExporter {
 public:
  struct Options {
    Attributes resource = {};                        // of the process
    std::size_t max_queue = 8192;                    // spans that wait; more are dropped
    std::size_t max_batch = 512;                     // spans of one request to the collector
    Duration period = std::chrono::seconds(1);       // a batch that is not full waits this long
    Duration post_limit = std::chrono::seconds(5);   // of one attempt
    int attempts = 4;                                // of one batch
    Duration retry_pause = std::chrono::seconds(1);  // doubles from attempt to attempt
    Duration flush_limit = std::chrono::seconds(2);  // of the destructor
  };

  // `metrics` outlives it.
  SpanExporter(Options options, std::unique_ptr<OtlpClient> client, Metrics& metrics);
  // Sends what waits, as far as flush_limit lets it; the rest is dropped and counted.
  ~SpanExporter();
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  // Thread-safe; never waits for the collector.
  void Add(SpanData span) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  enum class Outcome { kSent, kGivenUp };

  void Run();
  // What to send next; empty once all is over.
  std::vector<SpanData> TakeBatch() ABSL_LOCKS_EXCLUDED(mutex_);
  Outcome Send(const std::vector<SpanData>& batch) ABSL_LOCKS_EXCLUDED(mutex_);
  // False when the exporter ends instead.
  bool Pause(Duration pause) ABSL_LOCKS_EXCLUDED(mutex_);
  void LogFailure(const absl::Status& why);

  const Options options_;
  const std::unique_ptr<OtlpClient> client_;
  Counter& exported_;
  Counter& dropped_full_;
  Counter& dropped_failed_;
  Counter& dropped_rejected_;

  Mutex mutex_;
  CondVar changed_;
  std::vector<SpanData> queue_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  TimePoint end_ ABSL_GUARDED_BY(mutex_) = TimePoint::max();

  // The thread's own.
  bool failing_ = false;
  TimePoint last_log_{};

  std::thread thread_;
};

}  // namespace yangtuo
