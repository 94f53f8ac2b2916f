#pragma once

#include <atomic>
#include <chrono>

#include "inference_core/base/clock.h"

namespace yangtuo::testing {

// A clock that stands still until it is told otherwise.
class SetClock final : public Clock {
 public:
  [[nodiscard]] TimePoint Now() const override { return TimePoint(Duration(ticks_.load())); }
  void Advance(Duration by) { ticks_ += by.count(); }

 private:
  std::atomic<Duration::rep> ticks_ =
      std::chrono::duration_cast<Duration>(std::chrono::seconds(1000)).count();
};

}  // namespace yangtuo::testing
