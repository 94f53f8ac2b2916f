#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "inference_core/base/mutex.h"

namespace yangtuo {

// A few threads for work that would hold gRPC's callback threads up. Bounded: what does not fit is
// refused at once. Thread-safe; the destructor runs what was accepted.
class WorkQueue {
 public:
  WorkQueue(int num_threads, std::size_t max_waiting);
  ~WorkQueue();
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  // False when too much waits already; `work` is untouched then.
  bool Submit(std::function<void()>&& work) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  void RunUntilClosed() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::size_t max_waiting_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace yangtuo
