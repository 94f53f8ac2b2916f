#include "services/tokenizer/work_queue.h"

#include <utility>

namespace yangtuo {

WorkQueue::WorkQueue(int num_threads, std::size_t max_waiting) : max_waiting_(max_waiting) {
  for (int i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this] { RunUntilClosed(); });
  }
}

WorkQueue::~WorkQueue() {
  {
    const MutexLock lock(mutex_);
    closed_ = true;
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads_) {
    thread.join();
  }
}

bool WorkQueue::Submit(std::function<void()>&& work) {
  {
    const MutexLock lock(mutex_);
    if (waiting_.size() >= max_waiting_) {
      return false;
    }
    waiting_.push_back(std::move(work));
  }
  changed_.NotifyOne();
  return true;
}

void WorkQueue::RunUntilClosed() {
  while (true) {
    std::function<void()> work;
    {
      const MutexLock lock(mutex_);
      while (waiting_.empty() && !closed_) {
        changed_.Wait(mutex_);
      }
      if (waiting_.empty()) {
        return;
      }
      work = std::move(waiting_.front());
      waiting_.pop_front();
    }
    work();
  }
}

}  // namespace yangtuo
