#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

// API keys as an operator keeps them: a JSON file with the digest of each key and what it allows.
//
//   {"keys": [{"tenant": "rag", "sha256": "<64 hexadecimal digits>", "models": ["alpaca-7b"],
//              "requests_per_minute": 600, "tokens_per_minute": 200000, "max_requests": 16,
//              "max_priority": 0, "expires": "2027-01-01T00:00:00Z", "note": "laptop"}]}
//
// A key itself is random and long, so a plain digest of it tells nothing; it is shown once, when it
// is made, and kept nowhere.
namespace yangtuo {

using KeyDigest = std::array<std::uint8_t, 32>;

// One key. Absent limits are none.
struct ApiKey {
  KeyDigest digest = {};
  std::string tenant = {};               // 1..128 bytes; several keys may share one
  std::vector<std::string> models = {};  // empty: all
  std::optional<std::uint32_t> requests_per_minute = {};
  std::optional<std::uint32_t> tokens_per_minute = {};  // of prompts and answers
  std::optional<std::uint32_t> max_requests = {};       // at a time
  std::int32_t max_priority = 0;                        // -100..100
  std::optional<absl::Time> expires = {};
  std::string note = {};  // for people

  // The digest's first 8 hexadecimal digits: tells keys apart in logs.
  [[nodiscard]] std::string Id() const;
};

// Of the text that a client sends.
KeyDigest DigestOfKey(std::string_view key);
// 256 random bits, "yt-" before them.
absl::StatusOr<std::string> NewKey();

// INVALID_ARGUMENT names the entry and its member. Unknown members are errors: a limit with a
// spelling mistake would be none.
absl::StatusOr<std::vector<ApiKey>> ParseApiKeys(std::string_view text);
std::string FormatApiKeys(const std::vector<ApiKey>& keys);

// NOT_FOUND when there is no such file; errors name it.
absl::StatusOr<std::vector<ApiKey>> ReadApiKeysFile(const std::string& path);
// Whole or not at all; readable for the owner only, or for whom the file was readable before.
absl::Status WriteApiKeysFile(const std::string& path, const std::vector<ApiKey>& keys);

}  // namespace yangtuo
