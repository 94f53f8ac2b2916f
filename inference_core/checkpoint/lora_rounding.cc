#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>

#include "inference_core/base/float16.h"
#include "inference_core/checkpoint/lora_sums.h"

namespace yangtuo {
namespace {

// The float next to `exact` whose last bit tells whether anything was lost ("round to odd"):
// rounding it on to a type with fewer than 23 bits gives what rounding `exact` at once gives.
float NarrowToOdd(double exact) {
  const auto nearest = static_cast<float>(exact);
  const double kept = nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  // Beyond `exact`: one step towards zero. An infinity from a finite double steps to the largest
  // float. Zero is never beyond.
  bits -= std::abs(kept) > std::abs(exact) ? 1U : 0U;
  bits |= kept == exact || std::isnan(exact) ? 0U : 1U;
  return std::bit_cast<float>(bits);
}

// A block of a row at a time, which the second-level cache and the stack hold.
constexpr std::size_t kBlock = 512;

void RoundTo(DType type, std::span<float> values) {
  std::uint16_t halves[kBlock];
  const std::span<std::uint16_t> to(halves, values.size());
  if (type == DType::kF16) {
    FloatToF16(values, to);
    F16ToFloat(to, values);
  } else if (type == DType::kBF16) {
    FloatToBf16(values, to);
    Bf16ToFloat(to, values);
  }
}

std::size_t FirstNotFinite(std::span<const float> values) {
  std::size_t i = 0;
  while (i < values.size() && std::isfinite(values[i])) {
    ++i;
  }
  return i;
}

// Fills `values` block by block by `fill(begin, block)`, rounds, and looks for the first misfit.
template <typename Fill>
std::size_t RoundBlocks(DType type, std::span<float> values, const Fill& fill) {
  assert(IsPlain(type));
  std::size_t first = values.size();
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::span<float> block = values.subspan(begin, std::min(kBlock, values.size() - begin));
    fill(begin, block);
    RoundTo(type, block);
    const std::size_t misfit = FirstNotFinite(block);
    if (misfit < block.size() && first == values.size()) {
      first = begin + misfit;
    }
  }
  return first;
}

}  // namespace

std::size_t AddRounded(DType type, double scale, std::span<const double> sums,
                       std::span<float> values) {
  assert(sums.size() == values.size());
  return RoundBlocks(type, values, [&](std::size_t begin, std::span<float> block) {
    const std::span<const double> part = sums.subspan(begin, block.size());
    for (std::size_t i = 0; i < block.size(); ++i) {
      const double exact = static_cast<double>(block[i]) + scale * part[i];
      block[i] = type == DType::kF32 ? static_cast<float>(exact) : NarrowToOdd(exact);
    }
  });
}

std::size_t RoundValues(DType type, std::span<float> values) {
  return RoundBlocks(type, values, [](std::size_t /*begin*/, std::span<float> /*block*/) {});
}

}  // namespace yangtuo
