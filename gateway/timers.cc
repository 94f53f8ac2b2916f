#include "gateway/timers.h"

namespace yangtuo::gateway {

Timers::Timers() : thread_([this] { Loop(); }) {}

void Timers::After(Duration delay, std::function<void()> run) {
  const MutexLock lock(mutex_);
  if (stopped_) {
    return;
  }
  waiting_.emplace(Key{std::chrono::steady_clock::now() + delay, next_++}, std::move(run));
  changed_.NotifyOne();
}

void Timers::Stop() {
  std::map<Key, std::function<void()>> dropped;  // destroyed after the lock is free
  {
    const MutexLock lock(mutex_);
    stopped_ = true;
    dropped.swap(waiting_);
    changed_.NotifyOne();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Timers::Loop() {
  while (true) {
    std::function<void()> due;
    {
      const MutexLock lock(mutex_);
      while (!stopped_ && (waiting_.empty() ||
                           waiting_.begin()->first.first > std::chrono::steady_clock::now())) {
        if (waiting_.empty()) {
          changed_.Wait(mutex_);
        } else {
          changed_.WaitUntil(mutex_, waiting_.begin()->first.first);
        }
      }
      if (stopped_) {
        return;
      }
      due = std::move(waiting_.begin()->second);
      waiting_.erase(waiting_.begin());
    }
    due();
  }
}

}  // namespace yangtuo::gateway
