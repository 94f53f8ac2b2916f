#include "inference_core/kernels/kv_layout.h"

#include <algorithm>
#include <cstring>

#include "inference_core/kernels/narrow_lanes.h"
#include "inference_core/kernels/parallel.h"
#include "inference_core/kernels/simd_path.h"

namespace yangtuo::kernels {
namespace {

// Elements below which waking a team costs more than it saves.
constexpr std::int64_t kTeamElements = std::int64_t{1} << 14;

// One head's keys or values at one position, converted: the elements, padded with zeros, and their
// scale (int8).
struct Converted {
  alignas(64) std::byte elements[kMaxHeadDim * sizeof(float)];
  float scale;
};

using ConvertKernel = void (*)(std::span<const float> x, Converted& to);

void CopyFloats(std::span<const float> x, Converted& to) {
  std::memcpy(to.elements, x.data(), x.size_bytes());
}

[[gnu::always_inline]] inline void RoundToBf16(std::span<const float> x, Converted& to) {
  const auto count = static_cast<std::int64_t>(x.size());
  for (std::int64_t d = 0; d < count; d += kLanes) {
    Lanes lanes;
    LoadPartly(x.data() + d, count - d, lanes);
    RoundLanesToBf16(lanes);
    StoreUpperHalves(lanes, to.elements + d * 2);
  }
}

[[gnu::always_inline]] inline void QuantizeToInt8(std::span<const float> x, Converted& to) {
  const auto count = static_cast<std::int64_t>(x.size());
  const Magnitude magnitude = MagnitudeOf(x.data(), count);
  const float inverse = InverseScale(magnitude, 127.0F);
  for (std::int64_t d = 0; d < count; d += kLanes) {
    Lanes lanes;
    LoadPartly(x.data() + d, count - d, lanes);
    lanes *= inverse;
    StoreRoundedBytes(lanes, to.elements + d);
  }
  to.scale = Scale(magnitude, 127.0F);
}

void RoundToBf16Base(std::span<const float> x, Converted& to) { RoundToBf16(x, to); }
[[gnu::target("avx2")]] void RoundToBf16Avx2(std::span<const float> x, Converted& to) {
  RoundToBf16(x, to);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] void RoundToBf16Avx512(
    std::span<const float> x, Converted& to) {
  RoundToBf16(x, to);
}
void QuantizeToInt8Base(std::span<const float> x, Converted& to) { QuantizeToInt8(x, to); }
[[gnu::target("avx2")]] void QuantizeToInt8Avx2(std::span<const float> x, Converted& to) {
  QuantizeToInt8(x, to);
}
[[gnu::target("avx512f,avx512bw,avx512dq,avx512vl")]] void QuantizeToInt8Avx512(
    std::span<const float> x, Converted& to) {
  QuantizeToInt8(x, to);
}

ConvertKernel ConversionTo(KvType type) {
  switch (type) {
    case KvType::kBf16:
      return PickSimdPath<ConvertKernel>(RoundToBf16Base, RoundToBf16Avx2, RoundToBf16Avx512);
    case KvType::kInt8:
      return PickSimdPath<ConvertKernel>(QuantizeToInt8Base, QuantizeToInt8Avx2,
                                         QuantizeToInt8Avx512);
    case KvType::kF32:
      break;
  }
  return CopyFloats;
}

// Pieces of `kBytes` at every `distance` bytes.
template <std::size_t kBytes>
void Scatter(const std::byte* from, std::int64_t pieces, std::byte* to, std::int64_t distance) {
  for (std::int64_t i = 0; i < pieces; ++i, to += distance) {
    std::memcpy(to, from + i * static_cast<std::int64_t>(kBytes), kBytes);
  }
}

void ScatterPieces(std::int64_t bytes, const std::byte* from, std::int64_t pieces, std::byte* to,
                   std::int64_t distance) {
  switch (bytes) {
    case 1:
      return Scatter<1>(from, pieces, to, distance);
    case 2:
      return Scatter<2>(from, pieces, to, distance);
    default:
      return Scatter<4>(from, pieces, to, distance);
  }
}

// A head's part of a block.
class HeadBlock {
 public:
  HeadBlock(const KvLayout& layout, std::byte* layer, std::int64_t head, std::int64_t block)
      : layout_(layout),
        keys_(layer + layout.KeysAt(head, block)),
        values_(layer + layout.ValuesAt(head, block)),
        scales_(layer + layout.ScalesAt(head, block)) {}

  // All dimensions of a position lie one step apart.
  void StoreKey(const Converted& key, std::int64_t slot) const {
    const std::int64_t piece = layout_.contracted() * layout_.element_bytes();
    ScatterPieces(piece, key.elements, layout_.head_dim / layout_.contracted(),
                  keys_ + slot * piece, kBlockPositions * piece);
    StoreScale(key.scale, slot);
  }
  // Two positions take turns: one dimension of both, then the next dimension.
  void StoreValue(const Converted& value, std::int64_t slot) const {
    const std::int64_t c = layout_.contracted();
    const std::int64_t element = layout_.element_bytes();
    std::byte* const to = values_ + (slot / c * layout_.value_stride() * c + slot % c) * element;
    ScatterPieces(element, value.elements, layout_.head_dim, to, c * element);
    StoreScale(value.scale, kBlockPositions + slot);
  }

 private:
  void StoreScale(float scale, std::int64_t at) const {
    if (layout_.type == KvType::kInt8) {
      std::memcpy(scales_ + at * 4, &scale, 4);
    }
  }

  const KvLayout& layout_;
  std::byte* keys_;
  std::byte* values_;
  std::byte* scales_;
};

struct HeadRows {
  const KeysAndValues& rows;
  std::int64_t head;
  ConvertKernel convert;
};

void StoreHead(const KvLayout& layout, const SequenceRows& sequence, const HeadRows& from,
               std::byte* layer) {
  const auto head_dim = static_cast<std::size_t>(layout.head_dim);
  const std::int64_t column = from.head * layout.head_dim;
  Converted converted;
  converted.scale = 0.0F;
  for (std::int64_t r = 0; r < sequence.rows; ++r) {
    const std::int64_t row = sequence.first_row + r;
    const std::int64_t position = sequence.first_position + r;
    const std::int64_t block =
        sequence.blocks[static_cast<std::size_t>(position / kBlockPositions)];
    const HeadBlock to(layout, layer, from.head, block);
    from.convert({from.rows.keys.Row(row) + column, head_dim}, converted);
    to.StoreKey(converted, position % kBlockPositions);
    from.convert({from.rows.values.Row(row) + column, head_dim}, converted);
    to.StoreValue(converted, position % kBlockPositions);
  }
}

}  // namespace

std::string_view NameOf(KvType type) {
  switch (type) {
    case KvType::kF32:
      return "f32";
    case KvType::kBf16:
      return "bf16";
    case KvType::kInt8:
      return "int8";
  }
  return "?";
}

std::optional<KvType> KvTypeNamed(std::string_view name) {
  const auto* const found = std::find_if(kKvTypes.begin(), kKvTypes.end(),
                                         [name](KvType type) { return NameOf(type) == name; });
  return found == kKvTypes.end() ? std::nullopt : std::optional(*found);
}

void StoreKeysAndValues(const KvLayout& layout, std::span<const SequenceRows> batch,
                        const KeysAndValues& rows, std::byte* layer, int threads) {
  const ConvertKernel convert = ConversionTo(layout.type);
  std::int64_t tokens = 0;
  for (const SequenceRows& sequence : batch) {
    tokens += sequence.rows;
  }
  const int team = tokens * layout.kv_heads * layout.head_dim < kTeamElements ? 1 : threads;
  // No two heads share a cache line.
  ParallelFor(team, layout.kv_heads, [&](std::int64_t head) {
    for (const SequenceRows& sequence : batch) {
      StoreHead(layout, sequence, {.rows = rows, .head = head, .convert = convert}, layer);
    }
  });
}

}  // namespace yangtuo::kernels
