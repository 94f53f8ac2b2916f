#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"

namespace yangtuo::gateway {

// Runs functions later, one after the other on one thread of its own: short ones, or of another
// object those that take longer. Thread-safe.
class Timers {
 public:
  Timers();
  ~Timers() { Stop(); }
  Timers(const Timers&) = delete;
  Timers& operator=(const Timers&) = delete;

  // `run` must not wait for others. Dropped, not run, when Stop comes first.
  void After(Duration delay, std::function<void()> run) ABSL_LOCKS_EXCLUDED(mutex_);

  // Waits for a running function and drops all others; later calls of After do nothing. Not to be
  // called from a timer.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // Deadline, then order of arrival.
  using Key = std::pair<TimePoint, std::uint64_t>;

  void Loop() ABSL_LOCKS_EXCLUDED(mutex_);

  Mutex mutex_;
  CondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::uint64_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<Key, std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace yangtuo::gateway
