#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/peft_adapter.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostRank = 1 << 16;

// A key that is null, false, zero, empty or absent asks for nothing.
bool Asks(const json& value) {
  return !(value.is_null() || value == false || value == 0 || value == 0.0 ||
           ((value.is_array() || value.is_object() || value.is_string()) && value.empty()));
}

absl::Status Unexpected(std::string_view file, const char* key, const char* expected,
                        const json& config) {
  return absl::InvalidArgumentError(
      absl::StrFormat("%s: key \"%s\": expected %s, found %s", file, key, expected,
                      config.contains(key) ? Shown(config[key]) : "nothing"));
}

absl::Status CheckVariants(const json& config, std::string_view file) {
  const auto unsupported = [&](const char* key, const char* supported) {
    return absl::UnimplementedError(
        absl::StrFormat("%s: key \"%s\": only %s is supported, found %s", file, key, supported,
                        Shown(config[key])));
  };
  if (config.contains("peft_type") && config["peft_type"] != "LORA") {
    return unsupported("peft_type", "\"LORA\"");
  }
  if (config.contains("bias") && Asks(config["bias"]) && config["bias"] != "none") {
    return unsupported("bias", "\"none\"");
  }
  // The rest of PEFT's initializations (PiSSA, OLoRA, LoftQ, CorDA) train on a base that they have
  // changed: their factors do not belong on the original.
  if (const json start = config.value("init_lora_weights", json());
      start.is_string() && start != "gaussian" && start != "orthogonal" && start != "eva") {
    return unsupported("init_lora_weights",
                       "an initialization that leaves the base alone (true, false, \"gaussian\", "
                       "\"orthogonal\", \"eva\")");
  }
  for (const char* const key : {"use_dora", "enable_lora", "rank_pattern", "alpha_pattern",
                                "megatron_config", "layer_replication", "lora_bias"}) {
    if (config.contains(key) && Asks(config[key])) {
      return unsupported(key, "none");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<PeftConfig> ParsePeftConfig(std::string_view text, std::string_view file) {
  const absl::StatusOr<json> parsed = ParseStrictJson(text);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s", file, std::string(parsed.status().message())));
  }
  const json& config = *parsed;
  YANGTUO_RETURN_IF_ERROR(CheckVariants(config, file));
  PeftConfig peft;
  const json rank = config.value("r", json());
  if (!rank.is_number_integer() || rank <= 0 || rank > kMostRank) {
    return Unexpected(file, "r", "a rank from 1 to 65536", config);
  }
  const json alpha = config.value("lora_alpha", json());
  const double value = alpha.is_number() ? alpha.get<double>() : std::nan("");
  if (!std::isfinite(value) || value == 0) {
    return Unexpected(file, "lora_alpha", "a number other than 0", config);
  }
  const json transposed = config.value("fan_in_fan_out", json(false));
  if (!transposed.is_boolean()) {
    return Unexpected(file, "fan_in_fan_out", "true or false", config);
  }
  peft.rank = rank.get<std::int32_t>();
  const bool by_root = config.contains("use_rslora") && Asks(config["use_rslora"]);
  peft.scale = value / (by_root ? std::sqrt(static_cast<double>(peft.rank))
                                : static_cast<double>(peft.rank));
  peft.fan_in_fan_out = transposed.get<bool>();
  return peft;
}

}  // namespace yangtuo
