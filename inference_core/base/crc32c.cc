#include "inference_core/base/crc32c.h"

#include <boost/crc.hpp>
#include <cstring>

#include "inference_core/base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace yangtuo {
namespace internal {
namespace {

constexpr std::uint32_t kPolynomial = 0x1EDC6F41U;
constexpr std::uint32_t kAllOnes = 0xFFFFFFFFU;

std::uint32_t ReverseBits(std::uint32_t value) {
  std::uint32_t reversed = 0;
  for (int bit = 0; bit < 32; ++bit) {
    reversed = (reversed << 1) | (value & 1U);
    value >>= 1;
  }
  return reversed;
}

}  // namespace

std::uint32_t ExtendCrc32cPortable(std::uint32_t crc, std::span<const std::byte> bytes) {
  // Boost takes the register to start from before reflection and the final complement.
  boost::crc_optimal<32, kPolynomial, kAllOnes, kAllOnes, true, true> state(
      ReverseBits(crc ^ kAllOnes));
  state.process_bytes(bytes.data(), bytes.size());
  return state.checksum();
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t ExtendCrc32cSse42(
    std::uint32_t crc, std::span<const std::byte> bytes) {
  std::uint64_t state = crc ^ kAllOnes;
  const std::byte* p = bytes.data();
  std::size_t left = bytes.size();
  for (; left >= sizeof(std::uint64_t); left -= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, sizeof(word));
    state = _mm_crc32_u64(state, word);
    p += sizeof(word);
  }
  auto narrow = static_cast<std::uint32_t>(state);
  for (; left > 0; --left) {
    narrow = _mm_crc32_u8(narrow, std::to_integer<unsigned char>(*p++));
  }
  return narrow ^ kAllOnes;
}
#else
std::uint32_t ExtendCrc32cSse42(std::uint32_t crc, std::span<const std::byte> bytes) {
  return ExtendCrc32cPortable(crc, bytes);
}
#endif

}  // namespace internal

std::uint32_t ExtendCrc32c(std::uint32_t crc, std::span<const std::byte> bytes) {
  return GetCpuFeatures().sse42 ? internal::ExtendCrc32cSse42(crc, bytes)
                                : internal::ExtendCrc32cPortable(crc, bytes);
}

}  // namespace yangtuo
