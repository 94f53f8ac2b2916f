#include "tools/keys/keys.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "inference_core/base/status_macros.h"
#include "tools/common/table.h"

namespace yangtuo {
namespace {

constexpr std::size_t kMinIdDigits = 4;

absl::StatusOr<std::optional<absl::Time>> ParseExpiry(const std::string& text) {
  if (text.empty()) {
    return std::optional<absl::Time>();
  }
  absl::Time time;
  absl::Duration after;
  std::string error;
  if (absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return std::optional<absl::Time>(time);
  }
  if (absl::ParseDuration(text, &after) && after > absl::ZeroDuration()) {
    // Whole seconds are enough, and read better.
    return std::optional<absl::Time>(
        absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now() + after)));
  }
  return absl::InvalidArgumentError(absl::StrFormat(
      "--expires is \"%s\": give a time such as 2027-01-31T00:00:00Z, or a duration such as 720h",
      text));
}

std::string OrDash(const std::optional<std::uint32_t>& limit) {
  return limit.has_value() ? std::to_string(*limit) : "-";
}

std::string ExpiryText(const ApiKey& key) {
  if (!key.expires.has_value()) {
    return "never";
  }
  return absl::FormatTime("%Y-%m-%d %H:%M", *key.expires, absl::UTCTimeZone()) +
         (*key.expires <= absl::Now() ? " (past)" : "");
}

}  // namespace

absl::StatusOr<std::string> AddKey(const NewKeyOptions& options) {
  std::vector<ApiKey> keys;
  auto before = ReadApiKeysFile(options.file);
  if (before.ok()) {
    keys = *std::move(before);
  } else if (!absl::IsNotFound(before.status())) {
    return before.status();
  }
  ApiKey key = options.key;
  YANGTUO_ASSIGN_OR_RETURN(key.expires, ParseExpiry(options.expires));
  YANGTUO_ASSIGN_OR_RETURN(std::string text, NewKey());
  key.digest = DigestOfKey(text);
  keys.push_back(std::move(key));
  // What the gateway would refuse is not written.
  YANGTUO_RETURN_IF_ERROR(ParseApiKeys(FormatApiKeys(keys)).status());
  YANGTUO_RETURN_IF_ERROR(WriteApiKeysFile(options.file, keys));
  return text;
}

absl::StatusOr<std::string> ListKeys(const std::string& file) {
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<ApiKey> keys, ReadApiKeysFile(file));
  Table table{.columns = {{"ID"},
                          {"TENANT"},
                          {"REQUESTS/MIN", Align::kRight},
                          {"TOKENS/MIN", Align::kRight},
                          {"AT A TIME", Align::kRight},
                          {"PRIORITY", Align::kRight},
                          {"EXPIRES"},
                          {"MODELS"},
                          {"NOTE"}},
              .rows = {}};
  for (const ApiKey& key : keys) {
    table.rows.push_back({key.Id(), key.tenant, OrDash(key.requests_per_minute),
                          OrDash(key.tokens_per_minute), OrDash(key.max_requests),
                          absl::StrFormat("%d", key.max_priority), ExpiryText(key),
                          key.models.empty() ? "all" : absl::StrJoin(key.models, ","), key.note});
  }
  return FormatTable(table, 1000);
}

absl::Status RemoveKey(const std::string& file, const std::string& id) {
  if (id.size() < kMinIdDigits) {
    return absl::InvalidArgumentError(
        absl::StrFormat("\"%s\" is too short for an id: yangtuo keys list shows them", id));
  }
  YANGTUO_ASSIGN_OR_RETURN(std::vector<ApiKey> keys, ReadApiKeysFile(file));
  const auto is_meant = [&id](const ApiKey& key) { return absl::StartsWith(key.Id(), id); };
  const auto found = std::count_if(keys.begin(), keys.end(), is_meant);
  if (found == 0) {
    return absl::NotFoundError(absl::StrFormat(
        "no key of %s has the id %s: yangtuo keys list shows what there is", file, id));
  }
  if (found > 1) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%d keys of %s have ids that begin with %s: give more of it", found, file, id));
  }
  keys.erase(std::remove_if(keys.begin(), keys.end(), is_meant), keys.end());
  return WriteApiKeysFile(file, keys);
}

}  // namespace yangtuo
