#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/common/api_keys.h"

// The gateway's API keys file (services/common/api_keys.h) as an operator edits it.
namespace yangtuo {

struct NewKeyOptions {
  std::string file = {};
  ApiKey key = {};           // all but the digest
  std::string expires = {};  // RFC 3339, or a duration such as 720h; empty: never
};

// Adds a key to the file, which is made if it is not there, and returns the key: it is kept nowhere
// else.
absl::StatusOr<std::string> AddKey(const NewKeyOptions& options);
// A table of the file's keys.
absl::StatusOr<std::string> ListKeys(const std::string& file);
// By the id that ListKeys shows, or its beginning. NOT_FOUND, or FAILED_PRECONDITION when several
// begin so.
absl::Status RemoveKey(const std::string& file, const std::string& id);

}  // namespace yangtuo
