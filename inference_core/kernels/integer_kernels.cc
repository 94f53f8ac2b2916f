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

// Codes exceed what they stand for by 8, so a group's product with them exceeds the right one by 8
// times the sum of its inputs.
std::int32_t RowStart(std::span<const std::int8_t> x, std::int32_t* bias,
                      std::int64_t bias_stride) {
  if (bias == nullptr) {
    return 0;
  }
  for (std::size_t first = 0; first < x.size(); first += std::size_t{kGroup}) {
    std::int32_t sum = 0;
    for (const std::int8_t value : x.subspan(first, std::size_t{kGroup})) {
      sum += value;
    }
    *bias = -8 * sum;
    bias += bias_stride;
  }
  return 0;
}

// Input `k` of group `group` of row `row`.
std::int32_t Input(const TileProduct& t, std::int64_t row, std::int64_t group, std::int64_t k) {
  const std::int64_t step = group * (kGroup / kStep) + k / kStep;
  return t.x[(step * t.rows + row) * kStep + k % kStep];
}

// Where the byte of input `k` and column `c` lies in a group, expanded or int8.
std::int64_t PlaceOf(std::int64_t k, std::int64_t c) {
  return k / kStep * (kStep * kTileColumns) + c * kStep + k % kStep;
}

void SumInt8(const TileProduct& t) {
  for (std::int64_t row = 0; row < t.rows; ++row) {
    for (std::int64_t group = 0; group < t.groups; ++group) {
      const std::byte* const weight = t.weight + group * kInt8GroupBytes;
      for (std::int64_t c = 0; c < kTileColumns; ++c) {
        std::int32_t sum = 0;
        for (std::int64_t k = 0; k < kGroup; ++k) {
          sum += Input(t, row, group, k) * static_cast<std::int8_t>(weight[PlaceOf(k, c)]);
        }
        t.sums[row * t.sums_stride + c] += sum;
      }
    }
  }
}

void ExpandCodes(const Expansion& e) {
  for (std::int64_t group = 0; group < e.groups; ++group) {
    const std::byte* const codes = e.codes + group * kInt4GroupBytes;
    std::byte* const expanded = e.expanded + group * kInt8GroupBytes;
    for (std::int64_t at = 0; at < kInt4GroupBytes; ++at) {
      expanded[at] = codes[at] & std::byte{15};
      expanded[kInt4GroupBytes + at] = codes[at] >> 4;
    }
  }
}

void SumInt4Expanded(const TileProduct& t) {
  for (std::int64_t row = 0; row < t.rows; ++row) {
    for (std::int64_t group = 0; group < t.groups; ++group) {
      const std::byte* const codes = t.weight + group * kInt8GroupBytes;
      for (std::int64_t c = 0; c < kTileColumns; ++c) {
        std::int32_t sum = t.bias[group * t.rows + row];
        for (std::int64_t k = 0; k < kGroup; ++k) {
          sum += Input(t, row, group, k) * std::to_integer<std::int32_t>(codes[PlaceOf(k, c)]);
        }
        t.sums[row * t.sums_stride + c] += sum * t.multipliers[group * kTileColumns + c];
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
    ExpandCodes({.codes = t.weight + group * kInt4GroupBytes, .groups = 1, .expanded = expanded});
    SumInt4Expanded(one);
    one.x += kGroup * t.rows;
    one.bias += t.rows;
    one.multipliers += kTileColumns;
  }
}

void Scale(const TileResult& t) {
  for (std::int64_t c = 0; c < t.columns; ++c) {
    t.y[c] = static_cast<float>(t.sums[c]) * t.weight_scales[c] * t.x_scale;
  }
}

}  // namespace

const IntegerKernels& PortableIntegerKernels() {
  static constexpr IntegerKernels kKernels = {.name = "portable",
                                              .quantize_row = QuantizeRow,
                                              .row_start = RowStart,
                                              .int8 = SumInt8,
                                              .int8_block = {.rows = 4, .tiles = 1},
                                              .int4 = SumInt4,
                                              .int4_block = {.rows = 4, .tiles = 1},
                                              .int4_rows = 4,
                                              .expand = ExpandCodes,
                                              .int4_expanded = SumInt4Expanded,
                                              .expanded_has_bias = true,
                                              .scale = Scale};
  return kKernels;
}

const IntegerKernels* KernelsOf(IntegerPath path) {
  const CpuFeatures& cpu = GetCpuFeatures();
  const bool vnni = cpu.avx512 && cpu.avx512_vnni;
  switch (path) {
    case IntegerPath::kFastest:
      return vnni           ? &Avx512VnniIntegerKernels()
             : cpu.avx_vnni ? &AvxVnniIntegerKernels()
             : cpu.avx2     ? &Avx2IntegerKernels()
                            : &PortableIntegerKernels();
    case IntegerPath::kPortable:
      return &PortableIntegerKernels();
    case IntegerPath::kAvx2:
      return cpu.avx2 ? &Avx2IntegerKernels() : nullptr;
    case IntegerPath::kAvxVnni:
      return cpu.avx_vnni ? &AvxVnniIntegerKernels() : nullptr;
    case IntegerPath::kAvx512Vnni:
      return vnni ? &Avx512VnniIntegerKernels() : nullptr;
  }
  return nullptr;
}

}  // namespace yangtuo::kernels
