#include "gateway/access/access_control.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <openssl/crypto.h>
#include <optional>
#include <sys/stat.h>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "inference_core/base/status_macros.h"
#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

constexpr absl::string_view kScheme = "bearer ";
constexpr std::size_t kMaxKeyBytes = 512;

// "Bearer KEY" to KEY; empty when it is something else.
std::string KeyIn(std::string_view authorization) {
  const absl::string_view text =
      absl::StripAsciiWhitespace(absl::string_view(authorization.data(), authorization.size()));
  if (!absl::StartsWithIgnoreCase(text, kScheme) || text.size() > kMaxKeyBytes) {
    return "";
  }
  return std::string(absl::StripAsciiWhitespace(text.substr(kScheme.size())));
}

std::string ResetText(Duration duration) {
  return absl::FormatDuration(
      absl::Milliseconds(std::chrono::ceil<std::chrono::milliseconds>(duration).count()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<AccessControl>> AccessControl::Open(const std::string& path,
                                                                   Metrics& metrics,
                                                                   TimePoint now) {
  std::unique_ptr<AccessControl> access(new AccessControl(path, metrics));
  if (!path.empty()) {
    access->identity_ = access->FileIdentity();
    YANGTUO_ASSIGN_OR_RETURN(const std::vector<ApiKey> keys, ReadApiKeysFile(path));
    access->Use(keys, now);
  }
  return access;
}

AccessControl::AccessControl(std::string path, Metrics& metrics)
    : path_(std::move(path)), metrics_(metrics), table_(std::make_shared<Table>()) {}

// Accounts outlive the change: whoever has used up their limit has still used it up.
AccessControl::Table AccessControl::MakeTable(const std::vector<ApiKey>& keys, const Table& before,
                                              TimePoint now) const {
  std::map<KeyDigest, std::shared_ptr<KeyAccount>> accounts;
  for (const Entry& entry : before) {
    accounts[entry.digest] = entry.caller->account;
  }
  Table table;
  for (const ApiKey& key : keys) {
    std::shared_ptr<KeyAccount>& account = accounts[key.digest];
    if (account == nullptr) {
      account = std::make_shared<KeyAccount>(key, now);
    } else {
      account->SetLimits(key, now);
    }
    table.push_back({.digest = key.digest,
                     .expires = key.expires,
                     .caller = std::make_shared<Caller>(Caller{.tenant = key.tenant,
                                                               .key_id = key.Id(),
                                                               .models = key.models,
                                                               .max_priority = key.max_priority,
                                                               .account = account})});
  }
  return table;
}

void AccessControl::Use(const std::vector<ApiKey>& keys, TimePoint now) {
  const auto count = static_cast<double>(keys.size());
  {
    const MutexLock lock(mutex_);
    table_ = std::make_shared<Table>(MakeTable(keys, *table_, now));
  }
  metrics_.AddGauge("yangtuo_api_keys", "API keys in force").Set(count);
  FileValid().Set(1);
  Log(LogLevel::kInfo, "API keys read",
      {{"file", path_}, {"keys", static_cast<std::int64_t>(keys.size())}});
}

Gauge& AccessControl::FileValid() {
  return metrics_.AddGauge(
      "yangtuo_api_keys_file_valid",
      "1 while the API keys in force are those of the file, 0 while the file is broken");
}

// What changes with every way of replacing or rewriting a file.
std::string AccessControl::FileIdentity() const {
  struct stat file {};
  if (stat(path_.c_str(), &file) != 0) {
    return "absent";
  }
  return absl::StrFormat("%d:%d:%d:%d.%09d:%d.%09d", file.st_dev, file.st_ino, file.st_size,
                         file.st_mtim.tv_sec, file.st_mtim.tv_nsec, file.st_ctim.tv_sec,
                         file.st_ctim.tv_nsec);
}

void AccessControl::ReloadIfChanged(TimePoint now) {
  if (path_.empty()) {
    return;
  }
  // Taken before reading: what is written meanwhile has another one and is read next time.
  std::string identity = FileIdentity();
  if (identity == identity_) {
    return;
  }
  identity_ = std::move(identity);
  const auto keys = ReadApiKeysFile(path_);
  if (keys.ok()) {
    Use(*keys, now);
    return;
  }
  FileValid().Set(0);
  Log(LogLevel::kError, "API keys not read again, the old ones stay in force",
      {{"error", std::string(keys.status().message())}});
}

absl::Status AccessControl::Refuse(const char* reason, const char* message) {
  metrics_
      .AddCounter("yangtuo_unauthenticated_total", "Requests without a valid API key",
                  {{"reason", reason}})
      .Add();
  return WithReason(absl::UnauthenticatedError(message), reason);
}

absl::StatusOr<std::shared_ptr<const Caller>> AccessControl::Authenticate(
    std::string_view authorization) {
  static const std::shared_ptr<const Caller> kEverybody = std::make_shared<Caller>();
  if (path_.empty()) {
    return kEverybody;
  }
  const std::string key = KeyIn(authorization);
  if (key.empty()) {
    return Refuse("MISSING_API_KEY",
                  "this server wants an API key: send the header \"Authorization: Bearer KEY\" "
                  "(with gRPC: the metadata \"authorization\")");
  }
  std::shared_ptr<const Table> table;
  {
    const MutexLock lock(mutex_);
    table = table_;
  }
  // All entries are looked at, each in full, and the right one is selected without a branch: how
  // long this takes does not depend on the key.
  const KeyDigest digest = DigestOfKey(key);
  std::size_t found = table->size();
  for (std::size_t i = 0; i < table->size(); ++i) {
    const bool equal = CRYPTO_memcmp((*table)[i].digest.data(), digest.data(), digest.size()) == 0;
    const std::size_t mask = std::size_t{0} - static_cast<std::size_t>(equal);
    found = (found & ~mask) | (i & mask);
  }
  if (found == table->size()) {
    return Refuse("INVALID_API_KEY", "this API key is not valid here: check it, or ask for one");
  }
  const Entry& entry = (*table)[found];
  if (entry.expires.has_value() && absl::Now() >= *entry.expires) {
    return Refuse("EXPIRED_API_KEY", "this API key has expired: ask for a new one");
  }
  return entry.caller;
}

std::vector<std::pair<std::string, std::string>> RateLimitHeaders(const Caller& caller,
                                                                  TimePoint now) {
  std::vector<std::pair<std::string, std::string>> headers;
  const auto add = [&headers](const std::string& what, const std::optional<LimitView>& view) {
    if (view.has_value()) {
      headers.emplace_back("x-ratelimit-limit-" + what, std::to_string(view->limit));
      headers.emplace_back("x-ratelimit-remaining-" + what, std::to_string(view->remaining));
      headers.emplace_back("x-ratelimit-reset-" + what, ResetText(view->reset));
    }
  };
  if (caller.account != nullptr) {
    add("requests", caller.account->Requests(now));
    add("tokens", caller.account->Tokens(now));
  }
  return headers;
}

}  // namespace yangtuo::gateway
