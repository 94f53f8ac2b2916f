#include "services/inference/ticker.h"

#include <utility>

namespace yangtuo {

Ticker::Ticker(Duration period) : period_(period), thread_([this] { Loop(); }) {}

Ticker::~Ticker() { Stop(); }

void Ticker::Stop() {
  {
    const MutexLock lock(mutex_);
    stop_ = true;
  }
  stopping_.NotifyAll();
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Ticker::Add(std::weak_ptr<Ticking> ticking) {
  const MutexLock lock(mutex_);
  ticking_.push_back(std::move(ticking));
}

void Ticker::Loop() {
  TimePoint next = std::chrono::steady_clock::now() + period_;
  while (true) {
    std::vector<std::shared_ptr<Ticking>> due;
    {
      const MutexLock lock(mutex_);
      while (!stop_ && std::chrono::steady_clock::now() < next) {
        stopping_.WaitUntil(mutex_, next);
      }
      if (stop_) {
        return;
      }
      std::size_t kept = 0;
      for (std::weak_ptr<Ticking>& weak : ticking_) {
        if (std::shared_ptr<Ticking> ticking = weak.lock()) {
          due.push_back(std::move(ticking));
          std::swap(ticking_[kept++], weak);
        }
      }
      ticking_.resize(kept);
    }
    const TimePoint now = std::chrono::steady_clock::now();
    for (const std::shared_ptr<Ticking>& ticking : due) {
      ticking->OnTick(now);
    }
    // A process that was stopped for a while does not catch up on missed ticks.
    next = now + period_;
  }
}

}  // namespace yangtuo
