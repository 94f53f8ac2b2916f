#pragma once

#include "inference_core/base/clock.h"

namespace yangtuo::gateway {

// Whether a peer that reports well but breaks the streams it is given gets more of them. Closed: it
// does. After `failures` in a row it is open: nothing goes there for a pause that doubles every
// time. Then one stream at a time tries: an answer lets others in, a complete one closes the
// breaker, a failure opens it again. Guarded by its owner's lock.
class CircuitBreaker {
 public:
  struct Limits {
    int failures = 3;  // in a row; 0: never opens
    Duration first_pause = std::chrono::seconds(1);
    Duration longest_pause = std::chrono::seconds(30);
    // A trial that has not answered after this long makes room for another.
    Duration trial = std::chrono::seconds(10);
  };

  explicit CircuitBreaker(Limits limits) : limits_(limits) {}

  [[nodiscard]] bool Allows(TimePoint now) const;
  // A stream begins.
  void OnStart(TimePoint now);
  // The first token of a stream: the trial need not be waited for any longer. What failed so far
  // still counts, since streams may break in the middle.
  void OnAnswer();
  // A stream that came to its end.
  void OnSuccess();
  // True when this failure opened it.
  bool OnFailure(TimePoint now);
  [[nodiscard]] bool open() const { return open_; }
  // While open: when it lets a stream try.
  [[nodiscard]] TimePoint retry_at() const { return retry_at_; }

 private:
  const Limits limits_;
  int failures_ = 0;
  bool open_ = false;
  bool trying_ = false;  // while open: a stream is on its way
  Duration pause_{};
  TimePoint retry_at_{};
};

}  // namespace yangtuo::gateway
