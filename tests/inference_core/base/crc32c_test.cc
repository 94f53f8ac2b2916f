#include "inference_core/base/crc32c.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/base/cpu.h"

namespace yangtuo {
namespace {

std::vector<std::byte> RandomBytes(std::size_t size) {
  std::mt19937 random(7);
  std::vector<std::byte> bytes(size);
  for (std::byte& b : bytes) {
    b = static_cast<std::byte>(random());
  }
  return bytes;
}

TEST(Crc32cTest, GivesThePublishedChecksums) {
  EXPECT_EQ(Crc32c({}), 0U);
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(std::string_view("123456789")))), 0xE3069283U);
  // RFC 3720, appendix B.4.
  EXPECT_EQ(Crc32c(std::vector<std::byte>(32, std::byte{0x00})), 0x8A9136AAU);
  EXPECT_EQ(Crc32c(std::vector<std::byte>(32, std::byte{0xFF})), 0x62A8AB43U);
}

TEST(Crc32cTest, InstructionAndTableAgreeAtEveryLengthAndAlignment) {
  if (!GetCpuFeatures().sse42) {
    GTEST_SKIP() << "this CPU has no CRC32 instruction";
  }
  const std::vector<std::byte> bytes = RandomBytes(300);
  for (std::size_t begin = 0; begin < 9; ++begin) {
    for (std::size_t size = 0; size + begin <= bytes.size(); ++size) {
      const auto part = std::span(bytes).subspan(begin, size);
      const auto start = static_cast<std::uint32_t>(size * 2654435761U);
      ASSERT_EQ(internal::ExtendCrc32cSse42(start, part),
                internal::ExtendCrc32cPortable(start, part))
          << begin << " " << size;
    }
  }
}

TEST(Crc32cTest, ExtendingGivesTheChecksumOfTheWhole) {
  const std::vector<std::byte> bytes = RandomBytes(5000);
  const std::uint32_t whole = Crc32c(bytes);
  for (const std::size_t cut : {0UL, 1UL, 7UL, 8UL, 4096UL, 5000UL}) {
    const auto head = std::span(bytes).first(cut);
    const auto tail = std::span(bytes).subspan(cut);
    EXPECT_EQ(ExtendCrc32c(Crc32c(head), tail), whole) << cut;
    EXPECT_EQ(internal::ExtendCrc32cPortable(internal::ExtendCrc32cPortable(0, head), tail), whole)
        << cut;
  }
}

TEST(Crc32cTest, SeesEveryFlippedBit) {
  std::vector<std::byte> bytes = RandomBytes(64);
  const std::uint32_t intact = Crc32c(bytes);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    bytes[bit / 8] ^= mask;
    EXPECT_NE(Crc32c(bytes), intact) << bit;
    bytes[bit / 8] ^= mask;
  }
}

}  // namespace
}  // namespace yangtuo
