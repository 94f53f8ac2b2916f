#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "inference_core/formats/hf_config.h"

namespace yangtuo {

// What a tensor of a LLaMA model is for, in the order of computation.
enum class LlamaPart : std::uint8_t {
  kEmbedding,
  kAttentionNorm,  // from here to kDown: one in every layer
  kQuery,
  kKey,
  kValue,
  kAttentionOut,
  kFfnNorm,
  kGate,
  kUp,
  kDown,
  kNorm,
  kHead,
};

[[nodiscard]] constexpr bool IsNorm(LlamaPart part) {
  return part == LlamaPart::kAttentionNorm || part == LlamaPart::kFfnNorm ||
         part == LlamaPart::kNorm;
}

// Whether the rows are what rotary embedding turns: files differ in their order.
[[nodiscard]] constexpr bool IsRotary(LlamaPart part) {
  return part == LlamaPart::kQuery || part == LlamaPart::kKey;
}

// One tensor that a model of some shape has.
struct LlamaTensor {
  LlamaPart part = LlamaPart::kEmbedding;
  std::int32_t layer = 0;           // of a layer's parts
  std::vector<std::int64_t> shape;  // [out, in], [vocab, hidden] or [hidden]
};

// All tensors of a model, in the order of computation; a tied head is none of its own.
[[nodiscard]] std::vector<LlamaTensor> ListLlamaTensors(const LlamaConfig& config);

// Names, without a shard's number: "model.layers.0.self_attn.q_proj.weight",
// "layers.0.attention.wq.weight" and "blk.0.attn_q.weight".
[[nodiscard]] std::string HfName(const LlamaTensor& tensor);
[[nodiscard]] std::string MetaName(const LlamaTensor& tensor);
[[nodiscard]] std::string GgufName(const LlamaTensor& tensor);

// Rotary embedding turns pairs of rows of a head. Hugging Face puts pair j at rows j and
// j + head_dim / 2 of the head ("halves"), Meta and GGUF at rows 2 j and 2 j + 1 ("interleaved").
// Where the other order keeps a row:
[[nodiscard]] constexpr std::int64_t InterleavedRow(std::int64_t halves_row,
                                                    std::int64_t head_dim) {
  const std::int64_t r = halves_row % head_dim;
  const std::int64_t half = head_dim / 2;
  return halves_row - r + 2 * (r % half) + r / half;
}
[[nodiscard]] constexpr std::int64_t HalvesRow(std::int64_t interleaved_row,
                                               std::int64_t head_dim) {
  const std::int64_t r = interleaved_row % head_dim;
  return interleaved_row - r + r % 2 * (head_dim / 2) + r / 2;
}

}  // namespace yangtuo
