#pragma once

#include "inference_core/base/clock.h"

namespace yangtuo::gateway {

// How much of something a client may still use. It fills steadily, up to a minute's worth. It can
// be overdrawn, because what a request costs is known only after it has begun: then nothing begins
// until the debt is worked off, so that the long-run rate is exact. Not thread-safe.
class TokenBucket {
 public:
  TokenBucket(double per_minute, TimePoint now)
      : per_minute_(per_minute), level_(per_minute), at_(now) {}

  // From now on another rate; what was used stays used, in proportion.
  void SetRate(double per_minute, TimePoint now);
  void Take(double amount, TimePoint now);

  [[nodiscard]] double per_minute() const { return per_minute_; }
  // May be negative.
  [[nodiscard]] double Level(TimePoint now) const;
  // How long until the level is `level`, which is at most `per_minute`; zero when it is there.
  [[nodiscard]] Duration UntilLevel(double level, TimePoint now) const;

 private:
  double per_minute_;
  double level_;  // as of at_
  TimePoint at_;
};

}  // namespace yangtuo::gateway
