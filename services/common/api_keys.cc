#include "services/common/api_keys.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <set>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/utf8.h"

namespace yangtuo {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxFileBytes = std::size_t{8} << 20;
// Every request is compared with all keys, see AccessControl.
constexpr std::size_t kMaxKeys = 10'000;
constexpr std::size_t kMaxNameBytes = 128;
constexpr std::size_t kIdDigits = 8;
constexpr std::size_t kSecretBytes = 32;
constexpr std::int64_t kMaxPriority = 100;

std::string HexOf(const KeyDigest& digest) {
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest.data()), digest.size()));
}

// A tenant's name goes into logs, metrics and requests to workers.
bool IsName(const std::string& text) {
  return !text.empty() && text.size() <= kMaxNameBytes && ToValidUtf8(text, text.size()) == text &&
         std::none_of(text.begin(), text.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

// Reads one entry; the first mistake becomes `status`.
class EntryReader {
 public:
  EntryReader(const Json& entry, std::size_t index) : entry_(entry), index_(index) {}

  absl::StatusOr<ApiKey> Read() {
    if (!entry_.is_object()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("keys[%d]: expected an object with tenant and sha256", index_));
    }
    ApiKey key;
    for (const auto& item : entry_.items()) {
      ReadMember(item.key(), item.value(), key);
    }
    if (!entry_.contains("tenant")) {
      Fail("tenant", "is missing");
    }
    if (!entry_.contains("sha256")) {
      Fail("sha256", "is missing");
    }
    YANGTUO_RETURN_IF_ERROR(status_);
    return key;
  }

 private:
  void Fail(const std::string& member, const std::string& what) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrFormat("keys[%d].%s %s", index_, member, what));
    }
  }

  void ReadMember(const std::string& name, const Json& value, ApiKey& key) {
    if (name == "tenant") {
      key.tenant = Name(name, value);
    } else if (name == "sha256") {
      key.digest = Digest(value);
    } else if (name == "models") {
      key.models = Models(value);
    } else if (name == "requests_per_minute") {
      key.requests_per_minute = Limit(name, value);
    } else if (name == "tokens_per_minute") {
      key.tokens_per_minute = Limit(name, value);
    } else if (name == "max_requests") {
      key.max_requests = Limit(name, value);
    } else if (name == "max_priority") {
      key.max_priority =
          static_cast<std::int32_t>(Integer(name, value, -kMaxPriority, kMaxPriority));
    } else if (name == "expires") {
      key.expires = Expiry(value);
    } else if (name == "note") {
      key.note = value.is_string() ? value.get<std::string>() : "";
      if (!value.is_string()) {
        Fail(name, "must be a string");
      }
    } else {
      Fail(absl::CHexEscape(name.substr(0, kMaxNameBytes)),
           "is not known: tenant, sha256, models, requests_per_minute, tokens_per_minute, "
           "max_requests, max_priority, expires and note are");
    }
  }

  std::string Name(const std::string& member, const Json& value) {
    if (!value.is_string() || !IsName(value.get<std::string>())) {
      Fail(member, absl::StrFormat("must be a string of 1 to %d bytes without control characters",
                                   kMaxNameBytes));
      return "";
    }
    return value.get<std::string>();
  }

  KeyDigest Digest(const Json& value) {
    const std::string text = value.is_string() ? value.get<std::string>() : "";
    KeyDigest digest{};
    const bool hexadecimal = text.size() == 2 * digest.size() &&
                             text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    if (!hexadecimal) {
      Fail("sha256",
           "must be the key's SHA-256 in 64 hexadecimal digits, as yangtuo keys add writes it "
           "(never the key itself)");
      return digest;
    }
    const std::string bytes = absl::HexStringToBytes(text);
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(digest.data()));
    return digest;
  }

  std::vector<std::string> Models(const Json& value) {
    std::vector<std::string> models;
    if (!value.is_array() || value.empty()) {
      Fail("models", "must be a list of at least one name; leave it out to allow all models");
      return models;
    }
    for (const Json& model : value) {
      models.push_back(Name("models", model));
    }
    return models;
  }

  std::int64_t Integer(const std::string& member, const Json& value, std::int64_t low,
                       std::int64_t high) {
    // Unsigned numbers above the range of std::int64_t would wrap around.
    const bool fits = value.is_number_integer() &&
                      (!value.is_number_unsigned() ||
                       value.get<std::uint64_t>() <= static_cast<std::uint64_t>(high)) &&
                      value.get<std::int64_t>() >= low && value.get<std::int64_t>() <= high;
    if (!fits) {
      Fail(member, absl::StrFormat("must be a whole number in %d..%d", low, high));
      return low;
    }
    return value.get<std::int64_t>();
  }

  std::uint32_t Limit(const std::string& member, const Json& value) {
    return static_cast<std::uint32_t>(Integer(member, value, 1, 1'000'000'000));
  }

  absl::Time Expiry(const Json& value) {
    absl::Time time;
    std::string error;
    if (!value.is_string() ||
        !absl::ParseTime(absl::RFC3339_full, value.get<std::string>(), &time, &error)) {
      Fail("expires", "must be a time such as 2027-01-31T00:00:00Z");
    }
    return time;
  }

  const Json& entry_;
  const std::size_t index_;
  absl::Status status_;
};

Json JsonOf(const ApiKey& key) {
  Json entry = {{"tenant", key.tenant}, {"sha256", HexOf(key.digest)}};
  if (!key.models.empty()) {
    entry["models"] = key.models;
  }
  const auto limit = [&entry](const char* name, const std::optional<std::uint32_t>& value) {
    if (value.has_value()) {
      entry[name] = *value;
    }
  };
  limit("requests_per_minute", key.requests_per_minute);
  limit("tokens_per_minute", key.tokens_per_minute);
  limit("max_requests", key.max_requests);
  if (key.max_priority != 0) {
    entry["max_priority"] = key.max_priority;
  }
  if (key.expires.has_value()) {
    entry["expires"] = absl::FormatTime(absl::RFC3339_full, *key.expires, absl::UTCTimeZone());
  }
  if (!key.note.empty()) {
    entry["note"] = key.note;
  }
  return entry;
}

absl::StatusOr<Json> ParseJson(std::string_view text) {
  try {
    return Json::parse(text.begin(), text.end());
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(
        absl::StrFormat("is not JSON in UTF-8: look at byte %d", error.byte));
  }
}

absl::Status WriteAll(int file, const std::string& text, const std::string& path) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = write(file, text.data() + done, text.size() - done);
    if (written < 0 && errno != EINTR) {
      return absl::UnavailableError(
          absl::StrFormat("cannot write %s: %s", path, std::generic_category().message(errno)));
    }
    done += written > 0 ? static_cast<std::size_t>(written) : 0;
  }
  return absl::OkStatus();
}

}  // namespace

std::string ApiKey::Id() const { return HexOf(digest).substr(0, kIdDigits); }

KeyDigest DigestOfKey(std::string_view key) {
  KeyDigest digest{};
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  return digest;
}

absl::StatusOr<std::string> NewKey() {
  std::string bytes(kSecretBytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size())) !=
      1) {
    return absl::UnavailableError("the system gives no random numbers");
  }
  return "yt-" + absl::WebSafeBase64Escape(bytes);
}

absl::StatusOr<std::vector<ApiKey>> ParseApiKeys(std::string_view text) {
  if (text.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("has %d bytes, at most %d are read", text.size(), kMaxFileBytes));
  }
  YANGTUO_ASSIGN_OR_RETURN(const Json json, ParseJson(text));
  if (!json.is_object() || json.size() != 1 || !json.contains("keys") || !json["keys"].is_array()) {
    return absl::InvalidArgumentError(
        "expected {\"keys\": [{\"tenant\": ..., \"sha256\": ...}]} and no other members");
  }
  const Json& entries = json["keys"];
  if (entries.size() > kMaxKeys) {
    return absl::InvalidArgumentError(
        absl::StrFormat("has %d keys, at most %d are allowed", entries.size(), kMaxKeys));
  }
  std::vector<ApiKey> keys;
  std::set<KeyDigest> digests;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    YANGTUO_ASSIGN_OR_RETURN(ApiKey key, EntryReader(entries[i], i).Read());
    if (!digests.insert(key.digest).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("keys[%d].sha256 is there twice: a key has one entry", i));
    }
    keys.push_back(std::move(key));
  }
  return keys;
}

std::string FormatApiKeys(const std::vector<ApiKey>& keys) {
  Json entries = Json::array();
  for (const ApiKey& key : keys) {
    entries.push_back(JsonOf(key));
  }
  return Json{{"keys", std::move(entries)}}.dump(2, ' ', false, Json::error_handler_t::replace) +
         "\n";
}

absl::StatusOr<std::vector<ApiKey>> ReadApiKeysFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in.is_open()) {
    return absl::NotFoundError(absl::StrFormat(
        "cannot read the API keys file \"%s\"; check the path and its permissions", path));
  }
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) {
    return absl::UnavailableError(
        absl::StrFormat("the API keys file \"%s\" cannot be read to its end", path));
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  auto keys = ParseApiKeys(text);
  if (!keys.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("API keys file \"%s\": %s", path, std::string(keys.status().message())));
  }
  return keys;
}

absl::Status WriteApiKeysFile(const std::string& path, const std::vector<ApiKey>& keys) {
  struct stat before {};
  const bool replaces = stat(path.c_str(), &before) == 0;
  const mode_t mode = replaces ? before.st_mode & 0777U : 0600U;
  const std::string partial = absl::StrFormat("%s.%d.partial", path, getpid());
  const int file = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (file < 0) {
    return absl::UnavailableError(
        absl::StrFormat("cannot write %s: %s", partial, std::generic_category().message(errno)));
  }
  // The gateway, a user of its own perhaps, must still be able to read what replaces its file.
  absl::Status written;
  if (replaces && fchown(file, before.st_uid, before.st_gid) != 0) {
    written = absl::PermissionDeniedError(absl::StrFormat(
        "%s belongs to user %d and group %d, and would belong to others afterwards (%s); change it "
        "as that user or as root",
        path, before.st_uid, before.st_gid, std::generic_category().message(errno)));
  }
  fchmod(file, mode);  // whatever the umask
  if (written.ok()) {
    written = WriteAll(file, FormatApiKeys(keys), path);
  }
  if (written.ok() && fsync(file) != 0) {
    written = absl::UnavailableError(
        absl::StrFormat("cannot write %s: %s", path, std::generic_category().message(errno)));
  }
  close(file);
  if (written.ok() && std::rename(partial.c_str(), path.c_str()) != 0) {
    written = absl::UnavailableError(
        absl::StrFormat("cannot replace %s: %s", path, std::generic_category().message(errno)));
  }
  if (!written.ok()) {
    unlink(partial.c_str());
  }
  return written;
}

}  // namespace yangtuo
