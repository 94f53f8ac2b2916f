#include "inference_core/kernels/stored_rows.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "inference_core/base/float16.h"

namespace yangtuo::kernels {

void WidenRow(const std::byte* data, DType dtype, std::int64_t row, std::span<float> y) {
  const auto cols = static_cast<std::int64_t>(y.size());
  const std::byte* src = data + row * cols * SizeOf(dtype);
  if (dtype == DType::kF32) {
    std::memcpy(y.data(), src, y.size_bytes());
    return;
  }
  // Through an aligned copy: the source may begin at an odd address.
  std::array<std::uint16_t, 512> bits;
  for (std::size_t first = 0; first < y.size(); first += bits.size()) {
    const std::size_t count = std::min(bits.size(), y.size() - first);
    std::memcpy(bits.data(), src + first * sizeof(std::uint16_t), count * sizeof(std::uint16_t));
    const std::span<const std::uint16_t> x(bits.data(), count);
    if (dtype == DType::kF16) {
      F16ToFloat(x, y.subspan(first, count));
    } else {
      Bf16ToFloat(x, y.subspan(first, count));
    }
  }
}

}  // namespace yangtuo::kernels
