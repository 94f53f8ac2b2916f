#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"

namespace yangtuo {

// Something with periodic work: heartbeats, watch streams. OnTick runs on the ticker's thread and
// must not block.
class Ticking {
 public:
  virtual ~Ticking() = default;
  virtual void OnTick(TimePoint now) = 0;
};

// One thread for all periodic work of the process, so that no stream needs a thread or timer of its
// own. Thread-safe. Objects are forgotten when their last other owner is gone, and stay alive while
// OnTick runs.
class Ticker {
 public:
  explicit Ticker(Duration period = std::chrono::milliseconds(100));
  ~Ticker();
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;

  void Add(std::weak_ptr<Ticking> ticking) ABSL_LOCKS_EXCLUDED(mutex_);
  // No OnTick runs any more once this returns. For owners whose parts tick; called by one thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void Loop();

  const Duration period_;
  Mutex mutex_;
  CondVar stopping_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::weak_ptr<Ticking>> ticking_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace yangtuo
