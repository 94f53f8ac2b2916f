#pragma once

#include <cstdint>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "gateway/access/token_bucket.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/api_keys.h"

namespace yangtuo::gateway {

// What one limit looks like to a client.
struct LimitView {
  std::uint64_t limit = 0;
  std::uint64_t remaining = 0;
  Duration reset = {};  // until all of it is there again
};

// What one key has used of its limits. It lives on when the file is read again, so that a change of
// a limit starts nobody afresh. Thread-safe.
class KeyAccount {
 public:
  KeyAccount(const ApiKey& key, TimePoint now) { SetLimits(key, now); }
  KeyAccount(const KeyAccount&) = delete;
  KeyAccount& operator=(const KeyAccount&) = delete;

  void SetLimits(const ApiKey& key, TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);

  // Counts `requests` that begin, or RESOURCE_EXHAUSTED with a RetryInfo and a reason:
  // TENANT_REQUESTS (too many at a time), REQUEST_RATE, TOKEN_RATE. Nothing is counted then.
  absl::Status Enter(std::uint32_t requests, TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave(std::uint32_t requests) ABSL_LOCKS_EXCLUDED(mutex_);
  void ChargeTokens(std::uint64_t tokens, TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);

  // Empty: no such limit.
  [[nodiscard]] std::optional<LimitView> Requests(TimePoint now) const ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::optional<LimitView> Tokens(TimePoint now) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable Mutex mutex_;
  std::optional<std::uint32_t> max_requests_ ABSL_GUARDED_BY(mutex_);
  std::optional<TokenBucket> request_rate_ ABSL_GUARDED_BY(mutex_);
  std::optional<TokenBucket> token_rate_ ABSL_GUARDED_BY(mutex_);
  std::uint32_t running_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace yangtuo::gateway
