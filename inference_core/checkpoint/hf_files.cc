#include "inference_core/checkpoint/hf_files.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

const char* TorchName(DType plain) {
  return plain == DType::kF32 ? "float32" : plain == DType::kBF16 ? "bfloat16" : "float16";
}

// A float as the shortest decimal that reads back as it: 1e-05, not 9.99999974737875e-06.
double Shortest(float value) {
  for (int digits = 1; digits < 9; ++digits) {
    const double parsed = std::stod(absl::StrFormat("%.*g", digits, value));
    if (static_cast<float>(parsed) == value) {
      return parsed;
    }
  }
  return value;
}

ordered_json IdsOf(const LlamaConfig& config) {
  return config.eos_ids.size() == 1 ? ordered_json(config.eos_ids[0])
                                    : ordered_json(config.eos_ids);
}

ordered_json FreshConfig(const LlamaConfig& config) {
  ordered_json fresh = {{"architectures", {"LlamaForCausalLM"}},
                        {"model_type", "llama"},
                        {"hidden_act", "silu"},
                        {"hidden_size", config.hidden},
                        {"intermediate_size", config.ffn},
                        {"num_hidden_layers", config.layers},
                        {"num_attention_heads", config.heads},
                        {"num_key_value_heads", config.kv_heads},
                        {"vocab_size", config.vocab},
                        {"rms_norm_eps", Shortest(config.norm_eps)},
                        {"rope_theta", Shortest(config.rope_theta)},
                        {"max_position_embeddings", config.context_tokens},
                        {"tie_word_embeddings", config.tied_embeddings},
                        {"torch_dtype", "float16"},
                        {"bos_token_id", config.bos_id},
                        {"eos_token_id", IdsOf(config)}};
  if (config.head_dim * config.heads != config.hidden) {
    fresh["head_dim"] = config.head_dim;
  }
  if (config.rope_linear_factor != 1.0F) {
    fresh["rope_scaling"] = {{"type", "linear"}, {"factor", Shortest(config.rope_linear_factor)}};
  }
  return fresh;
}

// 8/3 of the hidden size, as integers divide.
std::int64_t PlainFfn(const LlamaConfig& config) { return std::int64_t{8} * config.hidden / 3; }

std::int64_t RoundUp(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

absl::StatusOr<std::string> HfConfigText(const LlamaConfig& config, DType plain,
                                         const std::filesystem::path& original) {
  ordered_json text;
  if (original.empty()) {
    text = FreshConfig(config);
  } else {
    YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(original));
    const std::string_view bytes(reinterpret_cast<const char*>(file.bytes().data()),
                                 file.bytes().size());
    // Read strictly when the model was opened; this time in the order of its keys.
    text = ordered_json::parse(bytes, nullptr, /*allow_exceptions=*/false);
    if (!text.is_object()) {
      return absl::DataLossError(absl::StrFormat("%s: expected a JSON object", original.string()));
    }
    text["vocab_size"] = config.vocab;
    const auto tied = text.find("tie_word_embeddings");  // null stands for none, as in its reader
    if ((tied != text.end() && *tied == true) != config.tied_embeddings) {
      text["tie_word_embeddings"] = config.tied_embeddings;
    }
  }
  text["torch_dtype"] = TorchName(plain);
  return text.dump(2) + "\n";
}

std::string MetaParamsText(const LlamaConfig& config) {
  const std::int64_t plain = PlainFfn(config);
  std::optional<double> multiplier;
  std::int64_t multiple_of = 0;
  // 256 is what the 7B to 65B models say.
  for (const std::int64_t candidate : {256, 4096, 128, 64, 32, 16, 8, 4, 2, 1}) {
    if (multiple_of == 0 && RoundUp(plain, candidate) == config.ffn) {
      multiple_of = candidate;
    }
  }
  constexpr double kMultiplierOf70B = 1.3;
  if (multiple_of == 0 &&
      RoundUp(static_cast<std::int64_t>(kMultiplierOf70B * static_cast<double>(plain)), 4096) ==
          config.ffn) {
    multiple_of = 4096;
    multiplier = kMultiplierOf70B;
  }
  if (multiple_of == 0) {
    multiple_of = 1;
    multiplier = (config.ffn + 0.5) / static_cast<double>(plain);  // rounded down when it is read
  }
  ordered_json params = {{"dim", config.hidden},
                         {"multiple_of", multiple_of},
                         {"n_heads", config.heads},
                         {"n_layers", config.layers},
                         {"norm_eps", Shortest(config.norm_eps)},
                         {"vocab_size", -1}};
  if (multiplier.has_value()) {
    params["ffn_dim_multiplier"] = *multiplier;
  }
  if (config.kv_heads != config.heads) {
    params["n_kv_heads"] = config.kv_heads;
  }
  if (config.rope_theta != 10000.0F) {
    params["rope_theta"] = Shortest(config.rope_theta);
  }
  return params.dump() + "\n";
}

absl::StatusOr<LlamaConfig> ParseMetaParams(std::string_view text, std::string_view file,
                                            MetaSizes sizes) {
  const absl::StatusOr<json> parsed = ParseStrictJson(text);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s", file, std::string(parsed.status().message())));
  }
  // The same things under Hugging Face's names, whose reader checks them.
  json config = {
      {"model_type", "llama"},
      {"vocab_size", sizes.vocab},
      {"intermediate_size", sizes.ffn},
      // Not in params.json: Meta's programs take it from the command line. LLaMA was
      // trained on 2048 positions with 1e-6 (65B: 1e-5), LLaMA-2 on 4096 with 1e-5.
      {"max_position_embeddings", parsed->value("norm_eps", json()) == 1e-6 ? 2048 : 4096}};
  constexpr std::pair<const char*, const char*> kKeys[] = {{"dim", "hidden_size"},
                                                           {"n_layers", "num_hidden_layers"},
                                                           {"n_heads", "num_attention_heads"},
                                                           {"n_kv_heads", "num_key_value_heads"},
                                                           {"norm_eps", "rms_norm_eps"},
                                                           {"rope_theta", "rope_theta"}};
  for (const auto& [meta, hf] : kKeys) {
    if (parsed->contains(meta)) {
      config[hf] = (*parsed)[meta];
    }
  }
  for (const char* const key : {"dim", "n_layers", "n_heads", "norm_eps"}) {
    if (!parsed->contains(key)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s: key \"%s\": expected a number, found nothing", file, key));
    }
  }
  return ParseLlamaConfig(config.dump(), file);
}

}  // namespace yangtuo
