#include "gateway/access/audit_log.h"

#include <cerrno>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "services/common/log.h"
#include "services/common/utf8.h"

namespace yangtuo::gateway {
namespace {

constexpr char kStandardOutput[] = "-";
constexpr std::size_t kMaxPromptBytes = std::size_t{64} << 10;

int OpenFile(const std::string& path) {
  return path == kStandardOutput
             ? STDOUT_FILENO
             : open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

std::string Why(int error) { return std::generic_category().message(error); }

std::string LineOf(const AuditEntry& entry) {
  nlohmann::ordered_json line = {
      {"time", absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone())},
      {"request_id", entry.request_id},
      {"tenant", entry.tenant},
      {"key", entry.key_id},
      {"endpoint", entry.endpoint},
      {"model", entry.model},
      {"status", entry.status},
      {"reason", entry.reason},
      {"prompt_tokens", entry.prompt_tokens},
      {"completion_tokens", entry.completion_tokens},
      {"ttft_seconds", nullptr},
      {"total_seconds", ToSeconds(entry.total)}};
  if (entry.time_to_first_token.has_value()) {
    line["ttft_seconds"] = ToSeconds(*entry.time_to_first_token);
  }
  if (entry.prompt.has_value()) {
    line["prompt"] = ToValidUtf8(*entry.prompt, kMaxPromptBytes);
  }
  // Names of models and request ids are what clients sent.
  return line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(const std::string& path, Prompts prompts,
                                                         Metrics& metrics) {
  const int file = OpenFile(path);
  if (file < 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("cannot append to the audit log \"%s\": %s", path, Why(errno)));
  }
  Counter& lost = metrics.AddCounter("yangtuo_audit_lines_lost_total",
                                     "Lines of the audit log that could not be written");
  return std::unique_ptr<AuditLog>(new AuditLog(path, prompts, file, lost));
}

AuditLog::AuditLog(std::string path, Prompts prompts, int file, Counter& lost)
    : path_(std::move(path)), prompts_(prompts), lost_(lost), file_(file) {}

AuditLog::~AuditLog() {
  const MutexLock lock(mutex_);
  if (file_ != STDOUT_FILENO) {
    close(file_);
  }
}

void AuditLog::Lost(int error) {
  lost_.Add();
  if (!std::exchange(failing_, true)) {
    Log(LogLevel::kError, "audit log cannot be written", {{"file", path_}, {"error", Why(error)}});
  }
}

void AuditLog::Write(const AuditEntry& entry) {
  std::string line = LineOf(entry);
  const MutexLock lock(mutex_);
  if (in_line_) {
    line = "\n" + line;  // what is there of the last one stays a line of its own
  }
  std::size_t done = 0;
  while (done < line.size()) {
    const ssize_t written = write(file_, line.data() + done, line.size() - done);
    if (written < 0 && errno != EINTR) {
      Lost(errno);
      return;
    }
    if (written > 0) {
      done += static_cast<std::size_t>(written);
      in_line_ = done < line.size();
    }
  }
  failing_ = false;
}

void AuditLog::ReopenIfMoved() {
  if (path_ == kStandardOutput) {
    return;
  }
  const MutexLock lock(mutex_);
  struct stat ours {};
  struct stat there {};
  const bool same = fstat(file_, &ours) == 0 && stat(path_.c_str(), &there) == 0 &&
                    ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
  if (same) {
    return;
  }
  // Without a new one the old one goes on: a moved record is better than none.
  if (const int file = OpenFile(path_); file >= 0) {
    close(file_);
    file_ = file;
    in_line_ = false;
  }
}

}  // namespace yangtuo::gateway
