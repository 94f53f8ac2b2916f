#pragma once

#include <cstdint>
#include <optional>

#include "inference_core/base/clock.h"

namespace yangtuo::gateway {

// How fast a group has lately been at its best, as streams through this gateway showed it. The best
// and not the mean, so that what is estimated from it is the least that an answer takes: who is
// refused because of it could not have been served. Nothing is known of a group that did nothing
// lately. Guarded by its owner's lock.
class GroupPace {
 public:
  // One prompt: from the stream's begin to its first token, with so many prompt tokens to compute,
  // those that waited before it included.
  void AddPrompt(TimePoint now, Duration time, std::uint64_t tokens);
  // Some tokens of one stream, one after the other.
  void AddTokens(TimePoint now, Duration time, std::uint64_t tokens);

  // The least time for an answer of `tokens` after `prompt_tokens` that are still to be computed.
  [[nodiscard]] std::optional<Duration> LeastTime(TimePoint now, std::uint64_t prompt_tokens,
                                                  std::uint64_t tokens) const;

 private:
  // The least of the last one to two windows.
  class RecentLeast {
   public:
    void Add(TimePoint now, double value);
    [[nodiscard]] std::optional<double> Get(TimePoint now) const;

   private:
    std::int64_t window_ = -2;
    std::optional<double> current_;
    std::optional<double> before_;
  };

  RecentLeast seconds_per_prompt_token_;
  RecentLeast seconds_per_token_;
};

}  // namespace yangtuo::gateway
