#pragma once

#include <array>
#include <cstdint>

#include "inference_core/base/clock.h"

namespace yangtuo {

// Tokens per second over the last five seconds, in buckets of a second. Not thread-safe.
class TokenRate {
 public:
  void Add(TimePoint now, std::int64_t tokens) {
    Advance(now);
    counts_[Slot(second_)] += tokens;
  }

  [[nodiscard]] double PerSecond(TimePoint now) {
    Advance(now);
    std::int64_t sum = 0;
    for (std::size_t i = 1; i <= kSeconds; ++i) {
      sum += counts_[Slot(second_ - static_cast<std::int64_t>(i))];
    }
    return static_cast<double>(sum) / static_cast<double>(kSeconds);
  }

 private:
  static constexpr std::size_t kSeconds = 5;
  // The running second is not complete and does not count.
  static constexpr std::size_t kSlots = kSeconds + 1;

  static std::size_t Slot(std::int64_t second) {
    constexpr auto count = static_cast<std::int64_t>(kSlots);
    return static_cast<std::size_t>((second % count + count) % count);
  }

  void Advance(TimePoint now) {
    const std::int64_t second =
        std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
    const std::int64_t steps = second - second_;
    for (std::int64_t i = 1; i <= steps && i <= static_cast<std::int64_t>(kSlots); ++i) {
      counts_[Slot(second_ + i)] = 0;
    }
    if (steps > 0) {
      if (steps > static_cast<std::int64_t>(kSlots)) {
        counts_.fill(0);
      }
      second_ = second;
    }
  }

  std::array<std::int64_t, kSlots> counts_ = {};
  std::int64_t second_ = 0;
};

}  // namespace yangtuo
