#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "inference_core/kernels/rows.h"

namespace yangtuo::kernels {

constexpr std::int64_t kBlockPositions = 32;
constexpr std::int64_t kMaxHeadDim = 512;

// What keys and values are kept as. int8: one scale for each position of a head, of its keys and of
// its values: largest magnitude / 127.
enum class KvType : std::uint8_t { kF32, kBf16, kInt8 };

constexpr std::array<KvType, 3> kKvTypes = {KvType::kF32, KvType::kBf16, KvType::kInt8};

[[nodiscard]] std::string_view NameOf(KvType type);  // "f32", "bf16" or "int8"
[[nodiscard]] std::optional<KvType> KvTypeNamed(std::string_view name);

// How one layer's keys and values lie in memory: one head after the other, each with the keys of
// all blocks, then their values, then (int8) the scales of a block's keys [32] and values [32] as
// floats. A sequence whose blocks are neighbours, as a prompt's mostly are, is read in two long
// pieces a head, which CPUs fetch faster than many short ones.
//
// Products sum over `contracted()` neighbours at once: two, where CPUs multiply pairs of numbers
// narrower than a float. Keys are [head_dim / c][32][c], so that scores of 32 positions are sums of
// vectors with no horizontal step; values are [32 / c][value_stride][c].
struct KvLayout {
  KvType type = KvType::kF32;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;  // at most kMaxHeadDim; even unless f32
  std::int64_t blocks = 0;    // in this memory

  [[nodiscard]] std::int64_t contracted() const { return type == KvType::kF32 ? 1 : 2; }
  [[nodiscard]] std::int64_t element_bytes() const {
    return type == KvType::kF32 ? 4 : type == KvType::kBf16 ? 2 : 1;
  }
  [[nodiscard]] std::int64_t value_stride() const { return (head_dim + 15) / 16 * 16; }
  [[nodiscard]] std::int64_t key_bytes() const {
    return kBlockPositions * head_dim * element_bytes();
  }
  [[nodiscard]] std::int64_t value_bytes() const {
    return kBlockPositions * value_stride() * element_bytes();
  }
  [[nodiscard]] std::int64_t scale_bytes() const {
    return type == KvType::kInt8 ? 2 * kBlockPositions * 4 : 0;
  }
  // Of one block, all heads.
  [[nodiscard]] std::int64_t block_bytes() const {
    return kv_heads * (key_bytes() + value_bytes() + scale_bytes());
  }
  [[nodiscard]] std::int64_t layer_bytes() const { return blocks * block_bytes(); }

  // Where a head's part of a block begins in the layer's memory.
  [[nodiscard]] std::int64_t KeysAt(std::int64_t head, std::int64_t block) const {
    return layer_bytes() / kv_heads * head + block * key_bytes();
  }
  [[nodiscard]] std::int64_t ValuesAt(std::int64_t head, std::int64_t block) const {
    return KeysAt(head, blocks) + block * value_bytes();
  }
  [[nodiscard]] std::int64_t ScalesAt(std::int64_t head, std::int64_t block) const {
    return ValuesAt(head, blocks) + block * scale_bytes();
  }
};

// Consecutive positions of one sequence in a batch.
struct SequenceRows {
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t first_position = 0;
  std::span<const std::int32_t> blocks;  // of positions 0 .. first_position + rows - 1
};

// Of a batch, both [tokens, kv_heads * head_dim].
struct KeysAndValues {
  Rows<const float> keys;
  Rows<const float> values;
};

// Writes them to their blocks in `layer`.
void StoreKeysAndValues(const KvLayout& layout, std::span<const SequenceRows> batch,
                        const KeysAndValues& rows, std::byte* layer, int threads);

}  // namespace yangtuo::kernels
