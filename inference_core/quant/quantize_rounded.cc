#include "inference_core/quant/quantize_rounded.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "inference_core/base/cpu.h"
#include "inference_core/quant/vector_build.h"

namespace yangtuo {
namespace {

constexpr std::size_t kBlock = 32;

// 1 / d, or 0 where that is not a finite number.
float Inverse(float d) {
  const float inverse = 1.0F / d;
  return std::isfinite(inverse) ? inverse : 0.0F;
}

float LargestMagnitude(std::span<const float> x) {
  float largest = 0.0F;
  for (const float value : x) {
    largest = std::max(largest, std::fabs(value));
  }
  return largest;
}

void WriteQ4_0(std::span<const float> x, std::span<BlockQ4_0> blocks) {
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const std::span<const float> values = x.subspan(b * kBlock, kBlock);
    float extreme = 0.0F;
    for (const float value : values) {
      extreme = std::fabs(value) > std::fabs(extreme) ? value : extreme;
    }
    const float d = extreme / -8.0F;
    const float inverse = Inverse(d);
    const auto code = [&](float value) {
      return std::min(15, static_cast<int>(value * inverse + 8.5F));
    };
    blocks[b].d.Set(FloatToF16(d));
    for (std::size_t i = 0; i < kBlock / 2; ++i) {
      blocks[b].codes[i] =
          static_cast<std::uint8_t>(code(values[i]) | code(values[i + kBlock / 2]) << 4);
    }
  }
}

void WriteQ8_0(std::span<const float> x, std::span<BlockQ8_0> blocks) {
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const std::span<const float> values = x.subspan(b * kBlock, kBlock);
    const float d = LargestMagnitude(values) / 127.0F;
    const float inverse = Inverse(d);
    blocks[b].d.Set(FloatToF16(d));
    for (std::size_t i = 0; i < kBlock; ++i) {
      // As std::round, in steps that are exact and vectorize.
      const float scaled = values[i] * inverse;
      const int cut = static_cast<int>(scaled);
      const float rest = scaled - static_cast<float>(cut);
      const int away = static_cast<int>(rest >= 0.5F) - static_cast<int>(rest <= -0.5F);
      blocks[b].codes[i] = static_cast<std::int8_t>(cut + away);
    }
  }
}

void WriteInt8(std::span<const float> x, std::span<std::byte> row) {
  const float scale = LargestMagnitude(x) / 127.0F;
  auto* codes = reinterpret_cast<std::int8_t*>(row.data());
  // Adding 1.5 * 2^23 leaves no bits below one: the sum is rounded to nearest, ties to even.
  constexpr float kNoFraction = 12582912.0F;
  const float divisor = scale > 0.0F ? scale : 1.0F;  // then all of x is (almost) zero
  for (std::size_t i = 0; i < x.size(); ++i) {
    // A subnormal scale may be far from exact.
    const float scaled = std::clamp(x[i] / divisor, -127.0F, 127.0F);
    codes[i] = static_cast<std::int8_t>((scaled + kNoFraction) - kNoFraction);
  }
  std::memcpy(row.data() + x.size(), &scale, sizeof scale);
}

YANGTUO_BUILD_FOR_AVX2 void WriteQ4_0Avx2(std::span<const float> x, std::span<BlockQ4_0> blocks) {
  WriteQ4_0(x, blocks);
}

YANGTUO_BUILD_FOR_AVX2 void WriteQ8_0Avx2(std::span<const float> x, std::span<BlockQ8_0> blocks) {
  WriteQ8_0(x, blocks);
}

YANGTUO_BUILD_FOR_AVX2 void WriteInt8Avx2(std::span<const float> x, std::span<std::byte> row) {
  WriteInt8(x, row);
}

}  // namespace

void QuantizeQ4_0(std::span<const float> x, std::span<BlockQ4_0> blocks) {
  GetCpuFeatures().avx2 ? WriteQ4_0Avx2(x, blocks) : WriteQ4_0(x, blocks);
}

void QuantizeQ8_0(std::span<const float> x, std::span<BlockQ8_0> blocks) {
  GetCpuFeatures().avx2 ? WriteQ8_0Avx2(x, blocks) : WriteQ8_0(x, blocks);
}

void QuantizeInt8(std::span<const float> x, std::span<std::byte> row) {
  GetCpuFeatures().avx2 ? WriteInt8Avx2(x, row) : WriteInt8(x, row);
}

}  // namespace yangtuo
