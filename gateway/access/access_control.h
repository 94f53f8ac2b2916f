#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "gateway/access/caller.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/api_keys.h"
#include "services/common/metrics.h"

namespace yangtuo::gateway {

// Tells who calls, by the API keys of a file that is read again when it changes. Thread-safe.
class AccessControl {
 public:
  // An empty path: no keys, everybody may call. Errors are those of ReadApiKeysFile.
  static absl::StatusOr<std::unique_ptr<AccessControl>> Open(const std::string& path,
                                                             Metrics& metrics, TimePoint now);

  // From the value of an Authorization header ("Bearer KEY"). UNAUTHENTICATED with reason
  // MISSING_API_KEY, INVALID_API_KEY or EXPIRED_API_KEY.
  absl::StatusOr<std::shared_ptr<const Caller>> Authenticate(std::string_view authorization)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Reads the file again if it is not the one that was read last. One that cannot be read changes
  // nothing but a metric and a line in the log. For one thread.
  void ReloadIfChanged(TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] bool open_to_all() const { return path_.empty(); }

 private:
  struct Entry {
    KeyDigest digest;
    std::optional<absl::Time> expires;
    std::shared_ptr<const Caller> caller;
  };
  using Table = std::vector<Entry>;

  AccessControl(std::string path, Metrics& metrics);
  [[nodiscard]] Table MakeTable(const std::vector<ApiKey>& keys, const Table& before,
                                TimePoint now) const;
  void Use(const std::vector<ApiKey>& keys, TimePoint now) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Refuse(const char* reason, const char* message);
  [[nodiscard]] std::string FileIdentity() const;
  Gauge& FileValid();

  const std::string path_;
  Metrics& metrics_;
  std::string identity_;  // of the file that was read last; for the reloading thread
  Mutex mutex_;
  std::shared_ptr<const Table> table_ ABSL_GUARDED_BY(mutex_);
};

// The headers x-ratelimit-* that tell a client what is left, as OpenAI names them.
std::vector<std::pair<std::string, std::string>> RateLimitHeaders(const Caller& caller,
                                                                  TimePoint now);

}  // namespace yangtuo::gateway
