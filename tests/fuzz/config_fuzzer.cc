// Arbitrary text as config.json: never a crash, and whatever is accepted keeps the promises of
// LlamaConfig and reads the same after it was written again.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "inference_core/formats/hf_config.h"
#include "tests/testing/test_model.h"

namespace {

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void CheckConfig(const yangtuo::LlamaConfig& config) {
  for (const std::int32_t size :
       {config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim, config.ffn,
        config.vocab, config.context_tokens}) {
    Require(size > 0);
  }
  Require(config.heads % config.kv_heads == 0 && config.head_dim % 2 == 0);
  for (const float number : {config.norm_eps, config.rope_theta, config.rope_linear_factor}) {
    Require(std::isfinite(number) && number > 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = yangtuo::ParseLlamaConfig(text, "config.json");
  if (!config.ok()) {
    const absl::StatusCode code = config.status().code();
    Require(code == absl::StatusCode::kInvalidArgument || code == absl::StatusCode::kUnimplemented);
    // Goes into gRPC messages: short, and dump() throws unless it is UTF-8.
    Require(nlohmann::json(std::string(config.status().message())).dump().size() < 4096);
    return 0;
  }
  CheckConfig(*config);
  const std::string written = yangtuo::EncodeConfig(*config, yangtuo::DType::kF32);
  const auto again = yangtuo::ParseLlamaConfig(written, "config.json");
  // A small vocabulary may lack the default ids, which only absent keys keep.
  if (again.ok()) {
    Require(again->Canonical() == config->Canonical());
  } else {
    Require(config->vocab <= 2);
  }
  return 0;
}
