#include "gateway/circuit_breaker.h"

#include <algorithm>
#include <utility>

namespace yangtuo::gateway {

bool CircuitBreaker::Allows(TimePoint now) const { return !open_ || now >= retry_at_; }

void CircuitBreaker::OnStart(TimePoint now) {
  if (open_) {
    trying_ = true;
    retry_at_ = now + limits_.trial;
  }
}

void CircuitBreaker::OnAnswer() {
  if (open_) {
    open_ = false;
    trying_ = false;
    failures_ = limits_.failures - 1;
  }
}

void CircuitBreaker::OnSuccess() {
  failures_ = 0;
  open_ = false;
  trying_ = false;
  pause_ = {};
}

bool CircuitBreaker::OnFailure(TimePoint now) {
  ++failures_;
  if (limits_.failures == 0 || failures_ < limits_.failures || (open_ && !trying_)) {
    return false;  // when open: of a stream that began before
  }
  pause_ = pause_ == Duration{} ? limits_.first_pause : std::min(2 * pause_, limits_.longest_pause);
  retry_at_ = now + pause_;
  trying_ = false;
  return !std::exchange(open_, true);
}

}  // namespace yangtuo::gateway
