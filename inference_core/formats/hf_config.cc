#include "inference_core/formats/hf_config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

using nlohmann::json;

constexpr std::size_t kLargestFile = std::size_t{1} << 20;

// Beyond every published model of the architecture, and small enough that products of two sizes fit
// 64 bits many times over.
constexpr std::int32_t kMostLayers = 1024;
constexpr std::int32_t kMostHidden = 1 << 16;
constexpr std::int32_t kMostHeads = 1024;
constexpr std::int32_t kMostHeadDim = 1024;
constexpr std::int32_t kMostFfn = 1 << 20;
constexpr std::int32_t kMostVocab = 1 << 22;
constexpr std::int32_t kMostContext = 1 << 24;
constexpr std::size_t kMostEosIds = 64;

struct WholeRange {
  std::int32_t least = 0;
  std::int32_t most = 0;
};

// Above `over`, up to `most`.
struct RealRange {
  float over = 0;
  float most = 0;
};

// Typed access to one object of a configuration file. A key that is null counts as absent, as in
// Hugging Face's own reader.
class Keys {
 public:
  Keys(const json& object, std::string_view file) : object_(object), file_(file) {}

  [[nodiscard]] const json* Find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  [[nodiscard]] absl::Status Unexpected(const char* key, const std::string& expected) const {
    const auto found = object_.find(key);
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: key \"%s\": expected %s, found %s", file_, key, expected,
                        found == object_.end() ? "nothing" : Shown(*found)));
  }

  [[nodiscard]] absl::Status Unsupported(const char* key, const std::string& supported) const {
    return absl::UnimplementedError(
        absl::StrFormat("%s: key \"%s\": only %s is supported, found %s", file_, key, supported,
                        Shown(object_[key])));
  }

  // Required without a default.
  [[nodiscard]] absl::StatusOr<std::int32_t> Whole(
      const char* key, WholeRange range, std::optional<std::int32_t> absent = std::nullopt) const {
    const json* const value = Find(key);
    if (value == nullptr && absent.has_value()) {
      return *absent;
    }
    const std::optional<std::int32_t> whole =
        value == nullptr ? std::nullopt : AsWhole(*value, range);
    if (!whole.has_value()) {
      return Unexpected(key,
                        absl::StrFormat("a whole number from %d to %d", range.least, range.most));
    }
    return *whole;
  }

  [[nodiscard]] absl::StatusOr<float> Real(const char* key, RealRange range, float absent) const {
    const json* const value = Find(key);
    if (value == nullptr) {
      return absent;
    }
    const double real = value->is_number() ? value->get<double>() : std::nan("");
    // Narrowed before it is compared: 1e-300 is above 0, but its float is not.
    if (!(real <= range.most && static_cast<float>(real) > range.over)) {
      return Unexpected(key,
                        absl::StrFormat("a number above %g, at most %g", range.over, range.most));
    }
    return static_cast<float>(real);
  }

  // Absent is false.
  [[nodiscard]] absl::StatusOr<bool> Flag(const char* key) const {
    const json* const value = Find(key);
    if (value != nullptr && !value->is_boolean()) {
      return Unexpected(key, "true or false");
    }
    return value != nullptr && value->get<bool>();
  }

  // Empty when absent.
  [[nodiscard]] absl::StatusOr<std::string> Text(const char* key) const {
    const json* const value = Find(key);
    if (value != nullptr && !value->is_string()) {
      return Unexpected(key, "a string");
    }
    return value == nullptr ? std::string() : value->get<std::string>();
  }

  // One id or a list of them; nullopt when absent.
  [[nodiscard]] absl::StatusOr<std::optional<std::vector<std::int32_t>>> Ids(
      const char* key, std::int32_t vocab) const {
    const json* const value = Find(key);
    if (value == nullptr) {
      return std::optional<std::vector<std::int32_t>>();
    }
    const json list = value->is_array() ? *value : json::array({*value});
    std::vector<std::int32_t> ids;
    for (const json& entry : list) {
      const std::optional<std::int32_t> id = AsWhole(entry, {.least = 0, .most = vocab - 1});
      if (!id.has_value() || list.size() > kMostEosIds) {
        return Unexpected(key, absl::StrFormat("one id from 0 to %d or a list of at most %d",
                                               vocab - 1, kMostEosIds));
      }
      if (std::find(ids.begin(), ids.end(), *id) == ids.end()) {
        ids.push_back(*id);
      }
    }
    return std::optional(ids);
  }

  [[nodiscard]] std::string_view file() const { return file_; }

 private:
  static std::optional<std::int32_t> AsWhole(const json& value, WholeRange range) {
    // Beyond int64 the parser made it a float, or it is unsigned and would read as negative.
    if (!value.is_number_integer() ||
        (value.is_number_unsigned() &&
         value.get<std::uint64_t>() > std::numeric_limits<std::int32_t>::max())) {
      return std::nullopt;
    }
    const auto whole = value.get<std::int64_t>();
    return whole >= range.least && whole <= range.most
               ? std::optional(static_cast<std::int32_t>(whole))
               : std::nullopt;
  }

  const json& object_;
  std::string_view file_;
};

absl::Status CheckArchitecture(const Keys& keys) {
  YANGTUO_ASSIGN_OR_RETURN(const std::string type, keys.Text("model_type"));
  if (!type.empty() && type != "llama") {
    return keys.Unsupported("model_type", "\"llama\"");
  }
  const json* const names = keys.Find("architectures");
  if (names == nullptr) {
    return type.empty() ? keys.Unexpected("model_type", "\"llama\"") : absl::OkStatus();
  }
  if (!names->is_array()) {
    return keys.Unexpected("architectures", "a list of class names");
  }
  // The second spelling is that of the first conversions, before the class was renamed.
  const bool llama = std::any_of(names->begin(), names->end(), [](const json& name) {
    return name == "LlamaForCausalLM" || name == "LLaMAForCausalLM";
  });
  return llama ? absl::OkStatus() : keys.Unsupported("architectures", "[\"LlamaForCausalLM\"]");
}

// What would change the arithmetic and is not computed here.
absl::Status CheckVariants(const Keys& keys) {
  YANGTUO_ASSIGN_OR_RETURN(const std::string activation, keys.Text("hidden_act"));
  if (!activation.empty() && activation != "silu") {
    return keys.Unsupported("hidden_act", "\"silu\"");
  }
  for (const char* const key : {"attention_bias", "mlp_bias"}) {
    YANGTUO_ASSIGN_OR_RETURN(const bool bias, keys.Flag(key));
    if (bias) {
      return keys.Unsupported(key, "false (linear layers without bias)");
    }
  }
  if (keys.Find("quantization_config") != nullptr) {
    return keys.Unsupported("quantization_config", "a model of plain f32, f16 or bf16 weights");
  }
  return absl::OkStatus();
}

absl::Status ReadSizes(const Keys& keys, LlamaConfig& config) {
  YANGTUO_ASSIGN_OR_RETURN(config.layers, keys.Whole("num_hidden_layers", {1, kMostLayers}));
  YANGTUO_ASSIGN_OR_RETURN(config.hidden, keys.Whole("hidden_size", {1, kMostHidden}));
  YANGTUO_ASSIGN_OR_RETURN(config.heads, keys.Whole("num_attention_heads", {1, kMostHeads}));
  YANGTUO_ASSIGN_OR_RETURN(config.kv_heads,
                           keys.Whole("num_key_value_heads", {1, kMostHeads}, config.heads));
  if (config.heads % config.kv_heads != 0) {
    return keys.Unexpected("num_key_value_heads",
                           absl::StrFormat("a divisor of num_attention_heads (%d)", config.heads));
  }
  YANGTUO_ASSIGN_OR_RETURN(config.head_dim, keys.Whole("head_dim", {1, kMostHeadDim}, 0));
  if (config.head_dim == 0) {
    if (config.hidden % config.heads != 0) {
      return keys.Unexpected("hidden_size", absl::StrFormat("a multiple of num_attention_heads "
                                                            "(%d), as head_dim is not given",
                                                            config.heads));
    }
    config.head_dim = config.hidden / config.heads;
  }
  if (config.head_dim % 2 != 0 || config.head_dim > kMostHeadDim) {
    return keys.Unexpected(
        "head_dim", absl::StrFormat("an even number up to %d (rotary embedding turns pairs); "
                                    "hidden_size %d and num_attention_heads %d give %d",
                                    kMostHeadDim, config.hidden, config.heads, config.head_dim));
  }
  YANGTUO_ASSIGN_OR_RETURN(config.ffn, keys.Whole("intermediate_size", {1, kMostFfn}));
  YANGTUO_ASSIGN_OR_RETURN(config.vocab, keys.Whole("vocab_size", {1, kMostVocab}));
  // 2048 is Hugging Face's default.
  YANGTUO_ASSIGN_OR_RETURN(config.context_tokens,
                           keys.Whole("max_position_embeddings", {1, kMostContext}, 2048));
  return absl::OkStatus();
}

constexpr RealRange kRopeTheta = {.over = 0, .most = 1e12F};

// "rope_scaling" of transformers 4, or "rope_parameters" of 5, which also holds the base.
absl::Status ReadRope(const Keys& keys, LlamaConfig& config) {
  YANGTUO_ASSIGN_OR_RETURN(config.rope_theta,
                           keys.Real("rope_theta", kRopeTheta, config.rope_theta));
  for (const char* const key : {"rope_scaling", "rope_parameters"}) {
    const json* const scaling = keys.Find(key);
    if (scaling == nullptr) {
      continue;
    }
    if (!scaling->is_object()) {
      return keys.Unexpected(key, "an object");
    }
    const Keys inner(*scaling, keys.file());
    YANGTUO_ASSIGN_OR_RETURN(config.rope_theta,
                             inner.Real("rope_theta", kRopeTheta, config.rope_theta));
    YANGTUO_ASSIGN_OR_RETURN(std::string type, inner.Text("rope_type"));
    if (type.empty()) {
      YANGTUO_ASSIGN_OR_RETURN(type, inner.Text("type"));
    }
    if (type == "linear" && inner.Find("factor") != nullptr) {
      YANGTUO_ASSIGN_OR_RETURN(config.rope_linear_factor,
                               inner.Real("factor", {.over = 0, .most = 1e6F}, 1.0F));
    } else if (type == "linear") {
      return keys.Unexpected(key, "a \"factor\" beside the type \"linear\"");
    } else if (type.empty()) {
      return keys.Unexpected(key, "a \"rope_type\"");
    } else if (type != "default") {
      return keys.Unsupported(key, "rope type \"default\" or \"linear\"");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<json> ParseNamed(std::string_view text, std::string_view file) {
  absl::StatusOr<json> parsed = ParseStrictJson(text);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: %s", file, std::string(parsed.status().message())));
  }
  return parsed;
}

absl::StatusOr<std::string> ReadText(const std::filesystem::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > kLargestFile) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected a configuration of at most %d bytes, found %d", path.string(),
                        kLargestFile, file.bytes().size()));
  }
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

}  // namespace

std::string LlamaConfig::Canonical() const {
  return absl::StrFormat(
      "layers=%d\nhidden=%d\nheads=%d\nkv_heads=%d\nhead_dim=%d\nffn=%d\nvocab=%d\n"
      "context_tokens=%d\nnorm_eps=%.9g\nrope_theta=%.9g\nrope_linear_factor=%.9g\n"
      "tied_embeddings=%d\nbos_id=%d\neos_ids=%s\n",
      layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context_tokens, norm_eps, rope_theta,
      rope_linear_factor, tied_embeddings ? 1 : 0, bos_id, absl::StrJoin(eos_ids, ","));
}

absl::StatusOr<LlamaConfig> ParseLlamaConfig(std::string_view json_text, std::string_view file) {
  YANGTUO_ASSIGN_OR_RETURN(const json parsed, ParseNamed(json_text, file));
  const Keys keys(parsed, file);
  YANGTUO_RETURN_IF_ERROR(CheckArchitecture(keys));
  YANGTUO_RETURN_IF_ERROR(CheckVariants(keys));
  LlamaConfig config;
  YANGTUO_RETURN_IF_ERROR(ReadSizes(keys, config));
  YANGTUO_RETURN_IF_ERROR(ReadRope(keys, config));
  YANGTUO_ASSIGN_OR_RETURN(config.norm_eps,
                           keys.Real("rms_norm_eps", {.over = 0, .most = 1}, config.norm_eps));
  YANGTUO_ASSIGN_OR_RETURN(config.tied_embeddings, keys.Flag("tie_word_embeddings"));
  YANGTUO_ASSIGN_OR_RETURN(config.bos_id,
                           keys.Whole("bos_token_id", {0, config.vocab - 1}, config.bos_id));
  YANGTUO_ASSIGN_OR_RETURN(const auto eos_ids, keys.Ids("eos_token_id", config.vocab));
  config.eos_ids = eos_ids.value_or(config.eos_ids);
  return config;
}

// Hugging Face lets generation_config.json override the model's own end-of-text ids.
absl::Status ReadGenerationConfig(const std::filesystem::path& path, LlamaConfig& config) {
  const absl::StatusOr<std::string> text = ReadText(path);
  if (absl::IsNotFound(text.status())) {
    return absl::OkStatus();
  }
  YANGTUO_RETURN_IF_ERROR(text.status());
  const std::string name = path.string();
  YANGTUO_ASSIGN_OR_RETURN(const json parsed, ParseNamed(*text, name));
  YANGTUO_ASSIGN_OR_RETURN(const auto ids, Keys(parsed, name).Ids("eos_token_id", config.vocab));
  if (ids.has_value()) {
    config.eos_ids = *ids;
  }
  return absl::OkStatus();
}

absl::StatusOr<LlamaConfig> ReadLlamaConfig(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  YANGTUO_ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  YANGTUO_ASSIGN_OR_RETURN(LlamaConfig config, ParseLlamaConfig(text, path.string()));
  YANGTUO_RETURN_IF_ERROR(ReadGenerationConfig(folder / "generation_config.json", config));
  return config;
}

}  // namespace yangtuo
