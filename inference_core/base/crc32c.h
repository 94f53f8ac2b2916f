#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace yangtuo {

// CRC-32C (Castagnoli, RFC 3720 appendix B.4) by the CPU's own instruction where it has one.
//
// ExtendCrc32c(Crc32c(a), b) is Crc32c of a and b joined; the CRC of nothing is 0.
[[nodiscard]] std::uint32_t ExtendCrc32c(std::uint32_t crc, std::span<const std::byte> bytes);
[[nodiscard]] inline std::uint32_t Crc32c(std::span<const std::byte> bytes) {
  return ExtendCrc32c(0, bytes);
}

namespace internal {
// The two ways behind ExtendCrc32c, apart so that tests compare them.
[[nodiscard]] std::uint32_t ExtendCrc32cPortable(std::uint32_t crc,
                                                 std::span<const std::byte> bytes);
// Only where CpuFeatures::sse42 is set.
[[nodiscard]] std::uint32_t ExtendCrc32cSse42(std::uint32_t crc, std::span<const std::byte> bytes);
}  // namespace internal

}  // namespace yangtuo
