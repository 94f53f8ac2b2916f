// Arbitrary text as adapter_config.json: never a crash, and what is accepted can be computed with.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "inference_core/checkpoint/peft_adapter.h"
#include "tests/fuzz/checks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using yangtuo::fuzz::Require;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = yangtuo::ParsePeftConfig(text, "adapter_config.json");
  if (!config.ok()) {
    const absl::StatusCode code = config.status().code();
    Require(code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kUnimplemented);
    Require(config.status().message().find("adapter_config.json") != std::string_view::npos);
    yangtuo::fuzz::CheckMessage(config.status());
    return 0;
  }
  Require(config->rank >= 1 && config->rank <= 65536);
  Require(std::isfinite(config->scale));
  return 0;
}
