#include "gateway/access/key_account.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "absl/strings/str_format.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

// Nobody knows when a running request ends.
constexpr Duration kRetryWhenBusy = std::chrono::seconds(1);

void SetRate(const std::optional<std::uint32_t>& per_minute, TimePoint now,
             std::optional<TokenBucket>& rate) {
  if (!per_minute.has_value()) {
    rate.reset();
  } else if (rate.has_value()) {
    rate->SetRate(*per_minute, now);
  } else {
    rate.emplace(*per_minute, now);
  }
}

absl::Status Refuse(const std::string& message, const char* reason, Duration retry_after) {
  return WithRetryAfter(WithReason(absl::ResourceExhaustedError(message), reason), retry_after);
}

std::optional<LimitView> ViewOf(const std::optional<TokenBucket>& rate, TimePoint now) {
  if (!rate.has_value()) {
    return std::nullopt;
  }
  return LimitView{
      .limit = static_cast<std::uint64_t>(rate->per_minute()),
      .remaining = static_cast<std::uint64_t>(std::floor(std::max(0.0, rate->Level(now)))),
      .reset = rate->UntilLevel(rate->per_minute(), now)};
}

}  // namespace

void KeyAccount::SetLimits(const ApiKey& key, TimePoint now) {
  const MutexLock lock(mutex_);
  max_requests_ = key.max_requests;
  SetRate(key.requests_per_minute, now, request_rate_);
  SetRate(key.tokens_per_minute, now, token_rate_);
}

absl::Status KeyAccount::Enter(std::uint32_t requests, TimePoint now) {
  const MutexLock lock(mutex_);
  // Several prompts of one call count as several requests; a call of more than the whole limit
  // enters when nothing else is in.
  if (max_requests_.has_value() && running_ > 0 && running_ + requests > *max_requests_) {
    return Refuse(absl::StrFormat("this API key has %d requests in progress, its limit is %d at a "
                                  "time: wait until one has ended",
                                  running_, *max_requests_),
                  "TENANT_REQUESTS", kRetryWhenBusy);
  }
  if (request_rate_.has_value()) {
    if (const Duration wait = request_rate_->UntilLevel(1, now); wait > Duration{}) {
      return Refuse(absl::StrFormat("this API key may make %.0f requests a minute: try again in "
                                    "%.1f s",
                                    request_rate_->per_minute(), ToSeconds(wait)),
                    "REQUEST_RATE", wait);
    }
  }
  if (token_rate_.has_value()) {
    if (const Duration wait = token_rate_->UntilLevel(1, now); wait > Duration{}) {
      return Refuse(
          absl::StrFormat("this API key may use %.0f tokens a minute, prompts and answers "
                          "together: try again in %.1f s",
                          token_rate_->per_minute(), ToSeconds(wait)),
          "TOKEN_RATE", wait);
    }
  }
  if (request_rate_.has_value()) {
    request_rate_->Take(requests, now);
  }
  running_ += requests;
  return absl::OkStatus();
}

void KeyAccount::Leave(std::uint32_t requests) {
  const MutexLock lock(mutex_);
  running_ -= requests;
}

void KeyAccount::ChargeTokens(std::uint64_t tokens, TimePoint now) {
  const MutexLock lock(mutex_);
  if (token_rate_.has_value()) {
    token_rate_->Take(static_cast<double>(tokens), now);
  }
}

std::optional<LimitView> KeyAccount::Requests(TimePoint now) const {
  const MutexLock lock(mutex_);
  return ViewOf(request_rate_, now);
}

std::optional<LimitView> KeyAccount::Tokens(TimePoint now) const {
  const MutexLock lock(mutex_);
  return ViewOf(token_rate_, now);
}

}  // namespace yangtuo::gateway
