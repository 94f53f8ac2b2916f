#include "inference_core/quant/quant.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_format.h"
#include "inference_core/base/float16.h"
#include "inference_core/quant/quantize_rounded.h"
#include "inference_core/quant/quantize_searched.h"

namespace yangtuo {
namespace {

constexpr std::array kTypes = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ4_0,
                               DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ8_0,
                               DType::kQ2_K, DType::kQ3_K, DType::kQ4_K, DType::kQ5_K,
                               DType::kQ6_K, DType::kInt8, DType::kInt4};

// The largest magnitude whose scales and offsets a type can hold, f16 in GGUF's blocks.
float Range(DType type) {
  constexpr float kLargestF16 = 65504.0F;
  switch (type) {
    case DType::kF16:
      return std::nextafter(65520.0F, 0.0F);  // what rounds to it
    case DType::kBF16:
      return std::bit_cast<float>(0x7F7F7FFFU);  // likewise
    case DType::kQ4_0:
      return 8.0F * kLargestF16;
    case DType::kQ8_0:
      return 127.0F * kLargestF16;
    case DType::kQ4_K:
    case DType::kQ6_K:
      return 63.0F * kLargestF16;  // Q4_K's offsets; Q6_K shares the rule
    default:
      return 1e37F;  // squares of their ratios stay finite
  }
}

absl::Status CheckValues(DType type, std::span<const float> x) {
  const float range = type == DType::kF32 ? std::numeric_limits<float>::max() : Range(type);
  // Magnitudes order like their bits, NaN last.
  const auto magnitude = [](float value) {
    return std::bit_cast<std::int32_t>(value) & 0x7FFFFFFF;
  };
  const auto limit = magnitude(range);
  std::int32_t largest = 0;
  for (const float value : x) {
    largest = std::max(largest, magnitude(value));
  }
  if (largest <= limit) {
    return absl::OkStatus();
  }
  const auto beyond =
      std::find_if(x.begin(), x.end(), [&](float value) { return magnitude(value) > limit; });
  return absl::InvalidArgumentError(
      absl::StrFormat("column %d: %g; %s needs finite numbers of at most %g in magnitude",
                      beyond - x.begin(), *beyond, NameOf(type), range));
}

void Narrow(DType type, std::span<const float> x, std::span<std::byte> row) {
  std::uint16_t halves[512];  // aligned, whatever the row is
  for (std::size_t begin = 0; begin < x.size(); begin += std::size(halves)) {
    const std::size_t count = std::min(std::size(halves), x.size() - begin);
    const std::span<std::uint16_t> to(halves, count);
    type == DType::kF16 ? FloatToF16(x.subspan(begin, count), to)
                        : FloatToBf16(x.subspan(begin, count), to);
    std::memcpy(row.data() + 2 * begin, halves, 2 * count);
  }
}

template <typename Block>
std::span<Block> BlocksOf(std::span<std::byte> row) {
  return {reinterpret_cast<Block*>(row.data()), row.size() / sizeof(Block)};
}

void Write(DType type, std::span<const float> x, std::span<const float> importance,
           std::span<std::byte> row) {
  switch (type) {
    case DType::kF32:
      std::memcpy(row.data(), x.data(), row.size());
      return;
    case DType::kF16:
    case DType::kBF16:
      return Narrow(type, x, row);
    case DType::kQ4_0:
      return importance.empty() ? QuantizeQ4_0(x, BlocksOf<BlockQ4_0>(row))
                                : SearchQ4_0(x, importance, BlocksOf<BlockQ4_0>(row));
    case DType::kQ8_0:
      return QuantizeQ8_0(x, BlocksOf<BlockQ8_0>(row));
    case DType::kQ4_K:
      return SearchQ4_K(x, importance, BlocksOf<BlockQ4_K>(row));
    case DType::kQ6_K:
      return SearchQ6_K(x, importance, BlocksOf<BlockQ6_K>(row));
    case DType::kInt8:
      return QuantizeInt8(x, row);
    case DType::kInt4:
      return SearchInt4(x, importance, row);
    default:
      assert(!CanQuantizeTo(type));
  }
}

}  // namespace

std::optional<DType> DTypeNamed(std::string_view name) {
  const auto found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](DType type) { return NameOf(type) == name; });
  return found == kTypes.end() ? std::nullopt : std::optional(*found);
}

bool CanQuantizeTo(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ4_0:
    case DType::kQ8_0:
    case DType::kQ4_K:
    case DType::kQ6_K:
    case DType::kInt8:
    case DType::kInt4:
      return true;
    default:
      return false;
  }
}

absl::Status QuantizeRow(DType type, std::span<const float> x, std::span<const float> importance,
                         std::span<std::byte> row) {
  const auto cols = static_cast<std::int64_t>(x.size());
  assert(importance.empty() || importance.size() == x.size());
  if (!CanQuantizeTo(type)) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is read only", NameOf(type)));
  }
  if (!RowFits(type, cols)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a row of %d does not divide into %s's blocks of %d", cols, NameOf(type),
                        LayoutOf(type).elements));
  }
  assert(static_cast<std::int64_t>(row.size()) == RowBytes(type, cols));
  if (const absl::Status status = CheckValues(type, x); !status.ok()) {
    return status;
  }
  Write(type, x, importance, row);
  return absl::OkStatus();
}

}  // namespace yangtuo
