// Arbitrary text as an API keys file: never a crash, and what is accepted keeps its promises and
// reads the same after it was written again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "services/common/api_keys.h"

namespace {

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto keys =
      yangtuo::ParseApiKeys(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!keys.ok()) {
    Require(keys.status().code() == absl::StatusCode::kInvalidArgument);
    // Goes into logs: short, and dump() throws unless it is UTF-8.
    Require(nlohmann::json(std::string(keys.status().message())).dump().size() < 4096);
    return 0;
  }
  for (const yangtuo::ApiKey& key : *keys) {
    Require(!key.tenant.empty() && key.tenant.size() <= 128);
    Require(key.max_priority >= -100 && key.max_priority <= 100);
    Require(key.requests_per_minute.value_or(1) > 0 && key.tokens_per_minute.value_or(1) > 0 &&
            key.max_requests.value_or(1) > 0);
  }
  const std::string written = yangtuo::FormatApiKeys(*keys);
  const auto again = yangtuo::ParseApiKeys(written);
  Require(again.ok() && yangtuo::FormatApiKeys(*again) == written);
  return 0;
}
