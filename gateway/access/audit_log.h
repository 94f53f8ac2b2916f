#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "services/common/metrics.h"

namespace yangtuo::gateway {

// One request, once it has ended.
struct AuditEntry {
  std::string request_id{};
  std::string tenant{};
  std::string key_id{};
  std::string endpoint{};  // "/v1/chat/completions", "yangtuo.v1.GenerationService/Generate"
  std::string model{};
  std::string status{};  // canonical code
  std::string reason{};  // of an error
  std::uint64_t prompt_tokens = 0;
  std::uint64_t completion_tokens = 0;
  std::optional<Duration> time_to_first_token{};
  Duration total{};
  std::optional<std::string> prompt{};  // only where prompts are wanted
};

// The record of who asked for what: a line of JSON for every request, in a file that is only ever
// appended to, or on standard output. Thread-safe.
class AuditLog {
 public:
  enum class Prompts { kLeftOut, kWritten };

  // "-" is standard output. The file is made, for its owner only, if it is not there.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(const std::string& path, Prompts prompts,
                                                        Metrics& metrics);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  [[nodiscard]] bool wants_prompts() const { return prompts_ == Prompts::kWritten; }

  // The line is in the file when this returns. One that cannot be written is counted and reported.
  void Write(const AuditEntry& entry) ABSL_LOCKS_EXCLUDED(mutex_);
  // Goes on in a new file when somebody has renamed or removed the old one, as logrotate does.
  void ReopenIfMoved() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  AuditLog(std::string path, Prompts prompts, int file, Counter& lost);
  void Lost(int error) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const Prompts prompts_;
  Counter& lost_;
  Mutex mutex_;
  int file_ ABSL_GUARDED_BY(mutex_);
  bool failing_ ABSL_GUARDED_BY(mutex_) = false;  // and it has been said
  bool in_line_ ABSL_GUARDED_BY(mutex_) = false;  // the last line was written in part only
};

}  // namespace yangtuo::gateway
