#include "tests/testing/test_model.h"

#include <cmath>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

// splitmix64 (Steele, Lea, Flood 2014): fast, and the same on every standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  // In [-1, 1).
  float Uniform() {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return static_cast<float>(static_cast<std::int64_t>(z) >> 40) * 0x1p-23F;
  }

 private:
  std::uint64_t state_;
};

std::vector<float> RandomValues(const PlainTensor& tensor, std::uint64_t seed) {
  float center = 0;
  float reach = 0;
  if (tensor.shape.size() == 1) {
    center = 1.0F;
    reach = 0.2F;
  } else {
    const bool head = absl::StartsWith(tensor.name, "lm_head") ||
                      absl::StartsWith(tensor.name, "model.embed_tokens");
    // A uniform value in [-r, r) has variance r^2 / 3.
    reach = (head ? 4.0F : 1.0F) * std::sqrt(3.0F / static_cast<float>(tensor.shape[1]));
  }
  Random random(seed);
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  for (float& value : values) {
    value = center + reach * random.Uniform();
  }
  return values;
}

const char* TorchName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    default:
      return "?";
  }
}

void WriteWeights(const TestModel& model, const std::filesystem::path& folder) {
  const std::vector<PlainTensor> tensors = LlamaTensors(model.config, model.dtype);
  const std::size_t files = model.files < 1 ? 1 : static_cast<std::size_t>(model.files);
  std::string weight_map;
  for (std::size_t file = 0; file < files; ++file) {
    const std::size_t first = tensors.size() * file / files;
    const std::size_t last = tensors.size() * (file + 1) / files;
    const std::string name =
        files == 1 ? "model.safetensors"
                   : absl::StrFormat("model-%05d-of-%05d.safetensors", file + 1, files);
    const auto part = std::span(tensors).subspan(first, last - first);
    WriteSafetensors(folder / name, part, [&](std::size_t i) {
      return RandomValues(part[i], model.seed * 1'000'003U + first + i);
    });
    for (const PlainTensor& tensor : part) {
      weight_map += absl::StrFormat("%s\n    \"%s\": \"%s\"", weight_map.empty() ? "" : ",",
                                    tensor.name, name);
    }
  }
  if (files > 1) {
    WriteTestFile(
        folder / "model.safetensors.index.json",
        absl::StrFormat("{\n  \"metadata\": {},\n  \"weight_map\": {%s\n  }\n}\n", weight_map));
  }
}

}  // namespace

LlamaConfig TinyLlamaConfig() {
  LlamaConfig config;
  config.layers = 2;
  config.hidden = 32;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.ffn = 48;
  config.vocab = 64;
  config.context_tokens = 128;
  return config;
}

std::vector<PlainTensor> LlamaTensors(const LlamaConfig& config, DType dtype) {
  const std::int64_t hidden = config.hidden;
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  std::vector<PlainTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    tensors.push_back({.name = name + ".weight", .dtype = dtype, .shape = std::move(shape)});
  };
  add("model.embed_tokens", {config.vocab, hidden});
  for (std::int32_t layer = 0; layer < config.layers; ++layer) {
    const std::string prefix = absl::StrFormat("model.layers.%d.", layer);
    add(prefix + "input_layernorm", {hidden});
    add(prefix + "self_attn.q_proj", {queries, hidden});
    add(prefix + "self_attn.k_proj", {keys, hidden});
    add(prefix + "self_attn.v_proj", {keys, hidden});
    add(prefix + "self_attn.o_proj", {hidden, queries});
    add(prefix + "post_attention_layernorm", {hidden});
    add(prefix + "mlp.gate_proj", {config.ffn, hidden});
    add(prefix + "mlp.up_proj", {config.ffn, hidden});
    add(prefix + "mlp.down_proj", {hidden, config.ffn});
  }
  add("model.norm", {hidden});
  if (!config.tied_embeddings) {
    add("lm_head", {config.vocab, hidden});
  }
  return tensors;
}

std::string EncodeConfig(const LlamaConfig& config, DType dtype) {
  const std::string scaling =
      config.rope_linear_factor == 1.0F
          ? "null"
          : absl::StrFormat(R"({"type": "linear", "factor": %.9g})", config.rope_linear_factor);
  return absl::StrFormat(
      R"({
  "architectures": ["LlamaForCausalLM"],
  "model_type": "llama",
  "hidden_act": "silu",
  "num_hidden_layers": %d,
  "hidden_size": %d,
  "num_attention_heads": %d,
  "num_key_value_heads": %d,
  "head_dim": %d,
  "intermediate_size": %d,
  "vocab_size": %d,
  "max_position_embeddings": %d,
  "rms_norm_eps": %.9g,
  "rope_theta": %.9g,
  "rope_scaling": %s,
  "tie_word_embeddings": %s,
  "bos_token_id": %d,
  "eos_token_id": [%s],
  "torch_dtype": "%s"
}
)",
      config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim, config.ffn,
      config.vocab, config.context_tokens, config.norm_eps, config.rope_theta, scaling,
      config.tied_embeddings ? "true" : "false", config.bos_id, absl::StrJoin(config.eos_ids, ", "),
      TorchName(dtype));
}

void WriteTestModel(const TestModel& model, const std::filesystem::path& folder) {
  WriteTestFile(folder / "config.json", EncodeConfig(model.config, model.dtype));
  WriteWeights(model, folder);
  if (!model.tokenizer.empty()) {
    WriteTestFile(folder / "tokenizer.model", ReadTestFile(model.tokenizer));
  }
}

}  // namespace yangtuo
