#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "inference_core/base/clock.h"

namespace yangtuo {

// Tokens per second over the last five seconds, in buckets of a second. One thread adds, any
// thread reads, nobody waits.
class TokenRate {
 public:
  void Add(TimePoint now, std::uint32_t tokens) {
    const std::uint32_t second = SecondOf(now);
    std::atomic<std::uint64_t>& slot = slots_[second % kSlots];
    const std::uint64_t old = slot.load(std::memory_order_relaxed);
    const std::uint32_t count = (old >> 32U) == second ? static_cast<std::uint32_t>(old) : 0;
    slot.store((std::uint64_t{second} << 32U) | (count + tokens), std::memory_order_relaxed);
  }

  [[nodiscard]] double PerSecond(TimePoint now) const {
    // The running second is not complete and does not count.
    const std::uint32_t second = SecondOf(now);
    std::uint64_t sum = 0;
    for (std::uint32_t i = 1; i <= kSeconds; ++i) {
      const std::uint64_t slot = slots_[(second - i) % kSlots].load(std::memory_order_relaxed);
      sum += (slot >> 32U) == second - i ? static_cast<std::uint32_t>(slot) : 0;
    }
    return static_cast<double>(sum) / kSeconds;
  }

 private:
  static constexpr std::uint32_t kSeconds = 5;
  // Six buckets are in use; a power of two keeps the place of a second when they wrap around.
  static constexpr std::uint32_t kSlots = 8;

  static std::uint32_t SecondOf(TimePoint now) {
    return static_cast<std::uint32_t>(
        std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
  }

  // The second in the upper half, its tokens in the lower.
  std::array<std::atomic<std::uint64_t>, kSlots> slots_ = {};
};

}  // namespace yangtuo
