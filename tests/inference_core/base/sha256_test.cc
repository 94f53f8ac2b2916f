#include "inference_core/base/sha256.h"

#include <string>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

// FIPS 180-2, appendix B.
constexpr std::string_view kAbc =
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

TEST(Sha256Test, GivesThePublishedDigests) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), kAbc);
  EXPECT_EQ(Sha256Hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256Test, PiecesGiveTheDigestOfTheWhole) {
  const std::string text(100'000, 'y');
  Sha256 digest;
  for (std::size_t begin = 0; begin < text.size(); begin += 777) {
    digest.Update(std::string_view(text).substr(begin, 777));
  }
  EXPECT_EQ(digest.FinishHex(), Sha256Hex(text));
}

TEST(Sha256Test, BeginsAnewAfterADigest) {
  Sha256 digest;
  digest.Update("something else");
  EXPECT_NE(digest.FinishHex(), kAbc);
  digest.Update("abc");
  EXPECT_EQ(ToHex(digest.Finish()), kAbc);
}

}  // namespace
}  // namespace yangtuo
