#include "inference_core/kernels/integer_kernels.h"

#include <algorithm>
#include <cmath>

#include "inference_core/base/cpu.h"

namespace yangtuo::kernels {
namespace {

float QuantizeRow(std::span<const float> x, std::span<std::int8_t> y) {
  float largest = 0.0F;
  bool finite = true;
  for (const float value : x) {
    largest = std::max(largest, std::fabs(value));
    finite = finite && std::isfinite(value);
  }
  if (!finite) {
    std::fill(y.begin(), y.end(), std::int8_t{0});
    return std::nanf("");
  }
  // A row of denormal numbers is a row of zeros: their reciprocal is not finite.
  const float inverse = 127.0F / largest;
  if (!std::isfinite(inverse)) {
    std::fill(y.begin(), y.end(), std::int8_t{0});
    return 0.0F;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float scaled = std::clamp(std::nearbyint(x[i] * inverse), -127.0F, 127.0F);
    y[i] = static_cast<std::int8_t>(scaled);
  }
  return largest / 127.0F;
}

std::int32_t Code(const std::byte* bytes, std::int64_t at) {
  return std::to_integer<std::int32_t>(bytes[at]);
}

// Of row `row`: input `4 * step + i` of group `group`.
std::int32_t Input(const TileProduct& t, std::int64_t row, std::int64_t group, std::int64_t k) {
  return t.x.x[row * t.x.x_stride + group * kGroup + k];
}

void SumInt8(const TileProduct& t) {
  for (std::int64_t row = 0; row < t.x.rows; ++row) {
    for (std::int64_t group = 0; group < t.groups; ++group) {
      const std::byte* const weight = t.weight + group * kInt8GroupBytes;
      for (std::int64_t c = 0; c < kTileColumns; ++c) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < kGroup; ++k) {
          const std::int64_t at = k / 4 * (4 * kTileColumns) + c * 4 + k % 4;
          sum += Input(t, row, group, k) * static_cast<std::int8_t>(weight[at]);
        }
        t.sums[row * kTileColumns + c] += sum;
      }
    }
  }
}

// Where the code of input `k` and column `c` lies in a group.
struct CodePlace {
  std::int64_t byte;
  int shift;
};
CodePlace PlaceOf(std::int64_t k, std::int64_t c) {
  const std::int64_t step = k / 4;
  return {c / 8 * 128 + step % 4 * 32 + c % 8 * 4 + k % 4, step < 4 ? 0 : 4};
}

void ExpandCodes(const std::byte* codes, std::int64_t groups, std::byte* expanded) {
  for (std::int64_t group = 0; group < groups; ++group) {
    for (std::int64_t k = 0; k < kGroup; ++k) {
      for (std::int64_t c = 0; c < kTileColumns; ++c) {
        const CodePlace place = PlaceOf(k, c);
        const std::int32_t code = Code(codes, place.byte) >> place.shift & 15;
        expanded[k / 4 * (4 * kTileColumns) + c * 4 + k % 4] = static_cast<std::byte>(code);
      }
    }
    codes += kInt4GroupBytes;
    expanded += kInt8GroupBytes;
  }
}

void SumInt4Expanded(const TileProduct& t) {
  for (std::int64_t row = 0; row < t.x.rows; ++row) {
    for (std::int64_t group = 0; group < t.groups; ++group) {
      const std::byte* const weight = t.weight + group * kInt8GroupBytes;
      for (std::int64_t c = 0; c < kTileColumns; ++c) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < kGroup; ++k) {
          const std::int64_t at = k / 4 * (4 * kTileColumns) + c * 4 + k % 4;
          sum += Input(t, row, group, k) * (Code(weight, at) - 8);
        }
        t.sums[row * kTileColumns + c] += sum * t.multipliers[group * kTileColumns + c];
      }
    }
  }
}

void SumInt4(const TileProduct& t) {
  alignas(64) std::byte expanded[kInt8GroupBytes];
  TileProduct one = t;
  one.groups = 1;
  one.weight = expanded;
  for (std::int64_t group = 0; group < t.groups; ++group) {
    ExpandCodes(t.weight + group * kInt4GroupBytes, 1, expanded);
    SumInt4Expanded(one);
    one.x.x += kGroup;
    one.multipliers += kTileColumns;
  }
}

void Scale(const TileResult& t) {
  for (std::int64_t c = 0; c < t.columns; ++c) {
    t.y[c] = static_cast<float>(t.sums[c]) * t.weight_scales[c] * t.x_scale;
  }
}

}  // namespace

std::int32_t GroupBias(std::span<const std::int8_t, kGroup> x) {
  std::int32_t even = 0;
  std::int32_t odd = 0;
  for (std::size_t k = 0; k < x.size(); k += 4) {
    even += x[k] + x[k + 1];
    odd += x[k + 2] + x[k + 3];
  }
  const auto low = static_cast<std::uint32_t>(-8 * even) & 0xFFFFU;
  const auto high = static_cast<std::uint32_t>(-8 * odd) << 16U;
  return static_cast<std::int32_t>(high | low);
}

const IntegerKernels& PortableIntegerKernels() {
  static constexpr IntegerKernels kKernels = {.name = "portable",
                                              .quantize_row = QuantizeRow,
                                              .int8 = SumInt8,
                                              .int4 = SumInt4,
                                              .expand = ExpandCodes,
                                              .int4_expanded = SumInt4Expanded,
                                              .scale = Scale};
  return kKernels;
}

const IntegerKernels* KernelsOf(IntegerPath path) {
  const bool avx2 = GetCpuFeatures().avx2;
  if (path == IntegerPath::kAvx2 && !avx2) {
    return nullptr;
  }
  return path == IntegerPath::kPortable || !avx2 ? &PortableIntegerKernels()
                                                 : &Avx2IntegerKernels();
}

}  // namespace yangtuo::kernels
