#include "gateway/access/token_bucket.h"

#include <algorithm>
#include <chrono>

namespace yangtuo::gateway {
namespace {

constexpr double kSecondsPerMinute = 60.0;

}  // namespace

double TokenBucket::Level(TimePoint now) const {
  const double elapsed = std::max(0.0, ToSeconds(now - at_));
  return std::min(per_minute_, level_ + elapsed * per_minute_ / kSecondsPerMinute);
}

void TokenBucket::Take(double amount, TimePoint now) {
  level_ = Level(now) - amount;
  at_ = std::max(at_, now);
}

void TokenBucket::SetRate(double per_minute, TimePoint now) {
  level_ = Level(now) / per_minute_ * per_minute;
  at_ = std::max(at_, now);
  per_minute_ = per_minute;
}

Duration TokenBucket::UntilLevel(double level, TimePoint now) const {
  const double missing = level - Level(now);
  if (missing <= 0) {
    return Duration{};
  }
  // Rounded up: who comes at that time must find it there.
  return std::chrono::ceil<std::chrono::milliseconds>(
      std::chrono::duration<double>(missing / per_minute_ * kSecondsPerMinute));
}

}  // namespace yangtuo::gateway
