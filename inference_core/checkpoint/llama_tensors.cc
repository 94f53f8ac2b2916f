#include "inference_core/checkpoint/llama_tensors.h"

#include <array>
#include <cstddef>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

struct Names {
  const char* hf;
  const char* meta;
  const char* gguf;
};

// In the order of LlamaPart; a layer's parts lack "model.layers.N.", "layers.N." and "blk.N.".
constexpr std::array<Names, 12> kNames = {{
    {"model.embed_tokens", "tok_embeddings", "token_embd"},
    {"input_layernorm", "attention_norm", "attn_norm"},
    {"self_attn.q_proj", "attention.wq", "attn_q"},
    {"self_attn.k_proj", "attention.wk", "attn_k"},
    {"self_attn.v_proj", "attention.wv", "attn_v"},
    {"self_attn.o_proj", "attention.wo", "attn_output"},
    {"post_attention_layernorm", "ffn_norm", "ffn_norm"},
    {"mlp.gate_proj", "feed_forward.w1", "ffn_gate"},
    {"mlp.up_proj", "feed_forward.w3", "ffn_up"},
    {"mlp.down_proj", "feed_forward.w2", "ffn_down"},
    {"model.norm", "norm", "output_norm"},
    {"lm_head", "output", "output"},
}};

constexpr bool IsOfLayer(LlamaPart part) {
  return part >= LlamaPart::kAttentionNorm && part <= LlamaPart::kDown;
}

const Names& NamesOf(LlamaPart part) { return kNames[static_cast<std::size_t>(part)]; }

std::string FullName(const LlamaTensor& tensor, const char* layers, const char* name) {
  return IsOfLayer(tensor.part) ? absl::StrFormat("%s.%d.%s.weight", layers, tensor.layer, name)
                                : absl::StrFormat("%s.weight", name);
}

std::vector<std::int64_t> ShapeOf(LlamaPart part, const LlamaConfig& config) {
  const std::int64_t hidden = config.hidden;
  const std::int64_t queries = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  switch (part) {
    case LlamaPart::kEmbedding:
    case LlamaPart::kHead:
      return {config.vocab, hidden};
    case LlamaPart::kAttentionNorm:
    case LlamaPart::kFfnNorm:
    case LlamaPart::kNorm:
      return {hidden};
    case LlamaPart::kQuery:
      return {queries, hidden};
    case LlamaPart::kKey:
    case LlamaPart::kValue:
      return {keys, hidden};
    case LlamaPart::kAttentionOut:
      return {hidden, queries};
    case LlamaPart::kGate:
    case LlamaPart::kUp:
      return {config.ffn, hidden};
    case LlamaPart::kDown:
      return {hidden, config.ffn};
  }
  return {};
}

}  // namespace

std::vector<LlamaTensor> ListLlamaTensors(const LlamaConfig& config) {
  std::vector<LlamaTensor> tensors;
  const auto add = [&](LlamaPart part, std::int32_t layer) {
    tensors.push_back({.part = part, .layer = layer, .shape = ShapeOf(part, config)});
  };
  add(LlamaPart::kEmbedding, 0);
  for (std::int32_t layer = 0; layer < config.layers; ++layer) {
    for (auto part = LlamaPart::kAttentionNorm; part <= LlamaPart::kDown;
         part = static_cast<LlamaPart>(static_cast<int>(part) + 1)) {
      add(part, layer);
    }
  }
  add(LlamaPart::kNorm, 0);
  if (!config.tied_embeddings) {
    add(LlamaPart::kHead, 0);
  }
  return tensors;
}

std::string HfName(const LlamaTensor& tensor) {
  return FullName(tensor, "model.layers", NamesOf(tensor.part).hf);
}

std::string MetaName(const LlamaTensor& tensor) {
  return FullName(tensor, "layers", NamesOf(tensor.part).meta);
}

std::string GgufName(const LlamaTensor& tensor) {
  return FullName(tensor, "blk", NamesOf(tensor.part).gguf);
}

}  // namespace yangtuo
