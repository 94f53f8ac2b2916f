#include "services/inference/shard_frame.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using internal::v1::Frame;
using ::testing::HasSubstr;

TEST(ShardFrameTest, LetsUnchangedFramesThroughInOrder) {
  FrameSealer sealer;
  FrameVerifier verifier;
  for (const char* payload : {"", "a", "some step"}) {
    EXPECT_TRUE(verifier.Check(sealer.Seal(internal::v1::FRAME_KIND_STEP, payload)).ok());
  }
}

TEST(ShardFrameTest, ChecksumIsCrc32cOverNumberKindAndPayload) {
  Frame frame;
  frame.set_number(0x3231);  // "12" and six zero bytes, little endian
  frame.set_kind(internal::v1::FRAME_KIND_STEP);
  frame.set_payload("x");
  // CRC32C of 31 32 00 00 00 00 00 00 01 78, computed bit by bit.
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const int byte : {0x31, 0x32, 0, 0, 0, 0, 0, 0, 1, 0x78}) {
    crc ^= static_cast<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    }
  }
  EXPECT_EQ(FrameChecksum(frame), ~crc);
}

TEST(ShardFrameTest, EveryFlippedBitOfThePayloadIsFound) {
  FrameSealer sealer;
  const Frame frame = sealer.Seal(internal::v1::FRAME_KIND_RESULT, "the answer is 42");
  for (std::size_t bit = 0; bit < frame.payload().size() * 8; ++bit) {
    Frame torn = frame;
    (*torn.mutable_payload())[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    const absl::Status status = FrameVerifier().Check(torn);
    EXPECT_TRUE(absl::IsDataLoss(status));
    EXPECT_THAT(std::string(status.message()), HasSubstr("frame 1 is torn"));
  }
}

TEST(ShardFrameTest, AChangedKindNumberOrChecksumIsFound) {
  FrameSealer sealer;
  const Frame frame = sealer.Seal(internal::v1::FRAME_KIND_RESULT, "payload");
  Frame kind = frame;
  kind.set_kind(internal::v1::FRAME_KIND_STEP);
  Frame number = frame;
  number.set_number(2);
  Frame checksum = frame;
  checksum.set_crc32c(frame.crc32c() + 1);
  for (const Frame& changed : {kind, number, checksum}) {
    EXPECT_TRUE(absl::IsDataLoss(FrameVerifier().Check(changed)));
  }
}

TEST(ShardFrameTest, RepeatedMissingAndReorderedFramesAreFound) {
  FrameSealer sealer;
  const Frame first = sealer.Seal(internal::v1::FRAME_KIND_STEP, "1");
  const Frame second = sealer.Seal(internal::v1::FRAME_KIND_STEP, "2");
  FrameVerifier missing;
  EXPECT_THAT(std::string(missing.Check(second).message()),
              HasSubstr("frame 2 arrived where frame 1 was due"));
  FrameVerifier repeated;
  ASSERT_TRUE(repeated.Check(first).ok());
  EXPECT_TRUE(absl::IsDataLoss(repeated.Check(first)));
  EXPECT_TRUE(repeated.Check(second).ok());
  EXPECT_TRUE(absl::IsDataLoss(repeated.Check(first)));
}

}  // namespace
}  // namespace yangtuo
