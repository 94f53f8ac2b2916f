#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Request bodies: untrusted JSON, and its members with their types.
namespace yangtuo::gateway::openai {

// Members stay in their order: it is the order of the keys in an answer that a schema describes.
using Json = nlohmann::ordered_json;

// INVALID_ARGUMENT for what is not a JSON object in valid UTF-8, is nested more than 64 deep, or
// has more than 1024 members in one object or 65536 in all: finding a member takes longer the more
// an object has.
absl::StatusOr<Json> ParseBody(std::string_view body);

// INVALID_ARGUMENT whose BadRequest names the member as the client wrote it.
absl::Status WrongField(std::string_view field, std::string_view description);
// The same, for a member that this server knows and cannot honour.
absl::Status UnsupportedField(std::string_view field, std::string_view description);

// Reads the members of an object. An absent member and a null are the same. The first member of a
// wrong type becomes `status()`; what is read after that is not to be used.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {}

  [[nodiscard]] const Json* Find(const char* name) const;
  std::optional<double> Number(const char* name);
  std::optional<std::int64_t> Integer(const char* name, std::int64_t low, std::int64_t high);
  std::optional<std::uint32_t> Count(const char* name);
  std::optional<bool> Bool(const char* name);
  std::optional<std::string> Text(const char* name);
  // A string, or a list of them.
  std::vector<std::string> Texts(const char* name);
  std::vector<std::uint32_t> Ids(const char* name);

  void Fail(absl::Status status);
  [[nodiscard]] const absl::Status& status() const { return status_; }

 private:
  void WrongType(const char* name, const char* expected, const Json& found);

  const Json& object_;
  absl::Status status_;
};

// A list of token ids; INVALID_ARGUMENT names `field`.
absl::StatusOr<std::vector<std::uint32_t>> TokenIdsOf(const std::string& field, const Json& list);

// JSON text of a value that we made; invalid UTF-8 in it becomes U+FFFD.
std::string Write(const Json& value);

}  // namespace yangtuo::gateway::openai
