#include "services/common/api_keys.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// printf '%s' abc | sha256sum
constexpr char kAbc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

std::string MessageOf(const std::string& entry) {
  const auto keys = ParseApiKeys("{\"keys\": [" + entry + "]}");
  return keys.ok() ? "OK" : std::string(keys.status().message());
}

TEST(ApiKeysTest, ReadsAllMembersOfAnEntry) {
  const auto keys = ParseApiKeys(absl::StrFormat(
      R"({"keys": [{"tenant": "rag", "sha256": "%s", "models": ["a", "b"],
                    "requests_per_minute": 60, "tokens_per_minute": 1000, "max_requests": 4,
                    "max_priority": -5, "expires": "2030-01-02T03:04:05Z", "note": "laptop"}]})",
      kAbc));
  ASSERT_TRUE(keys.ok()) << keys.status();
  const ApiKey& key = keys->front();
  EXPECT_EQ(key.digest, DigestOfKey("abc"));
  EXPECT_EQ(key.Id(), "ba7816bf");
  EXPECT_EQ(key.tenant, "rag");
  EXPECT_THAT(key.models, ElementsAre("a", "b"));
  EXPECT_EQ(key.requests_per_minute, 60U);
  EXPECT_EQ(key.tokens_per_minute, 1000U);
  EXPECT_EQ(key.max_requests, 4U);
  EXPECT_EQ(key.max_priority, -5);
  EXPECT_EQ(absl::ToUnixSeconds(*key.expires), 1893553445);
}

TEST(ApiKeysTest, WhatIsLeftOutIsUnlimited) {
  const auto keys =
      ParseApiKeys(absl::StrFormat(R"({"keys": [{"tenant": "t", "sha256": "%s"}]})", kAbc));
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE(keys->front().models.empty());
  EXPECT_FALSE(keys->front().requests_per_minute.has_value());
  EXPECT_FALSE(keys->front().expires.has_value());
  EXPECT_EQ(keys->front().max_priority, 0);
}

TEST(ApiKeysTest, MistakesAreNamed) {
  const std::string good = absl::StrFormat(R"("tenant": "t", "sha256": "%s")", kAbc);
  EXPECT_EQ(MessageOf("{" + good + "}"), "OK");
  EXPECT_THAT(MessageOf("{" + good + R"(, "request_per_minute": 1})"),
              HasSubstr("keys[0].request_per_minute is not known"));
  EXPECT_THAT(MessageOf("{" + good + R"(, "max_requests": 0})"),
              HasSubstr("keys[0].max_requests must be a whole number in 1.."));
  EXPECT_THAT(MessageOf("{" + good + R"(, "max_priority": 18446744073709551615})"),
              HasSubstr("max_priority must be a whole number in -100..100"));
  EXPECT_THAT(MessageOf("{" + good + R"(, "models": []})"), HasSubstr("leave it out"));
  EXPECT_THAT(MessageOf("{" + good + R"(, "expires": "tomorrow"})"),
              HasSubstr("such as 2027-01-31T00:00:00Z"));
  EXPECT_THAT(MessageOf(R"({"tenant": "t", "sha256": "yt-secret"})"),
              HasSubstr("64 hexadecimal digits"));
  EXPECT_THAT(MessageOf(R"({"tenant": "a\nb", "sha256": ")" + std::string(kAbc) + "\"}"),
              HasSubstr("control characters"));
  EXPECT_THAT(MessageOf(R"({"tenant": "t"})"), HasSubstr("keys[0].sha256 is missing"));
  EXPECT_THAT(MessageOf("{" + good + "}, {" + good + "}"),
              HasSubstr("keys[1].sha256 is there twice"));
  EXPECT_THAT(MessageOf("7"), HasSubstr("keys[0]: expected an object"));
  EXPECT_FALSE(ParseApiKeys("").ok());
  EXPECT_FALSE(ParseApiKeys(R"({"keys": [], "kyes": []})").ok());
}

TEST(ApiKeysTest, AFileIsReadAsItWasWrittenAndIsForItsOwnerOnly) {
  const TempDir folder;
  const std::string path = folder.path() / "keys.json";
  EXPECT_TRUE(absl::IsNotFound(ReadApiKeysFile(path).status()));
  ApiKey key{.digest = DigestOfKey("abc"), .tenant = "租户", .models = {"m"}};
  key.tokens_per_minute = 5;
  key.max_priority = 3;
  key.expires = absl::FromUnixSeconds(1893553445);
  key.note = "n";
  ASSERT_TRUE(WriteApiKeysFile(path, {key}).ok());
  namespace fs = std::filesystem;
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  const auto again = ReadApiKeysFile(path);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(FormatApiKeys(*again), FormatApiKeys({key}));
  EXPECT_EQ(again->front().tenant, "租户");
  // A wider mode that somebody chose is kept.
  fs::permissions(path, fs::perms::owner_all | fs::perms::group_read);
  ASSERT_TRUE(WriteApiKeysFile(path, {}).ok());
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_all | fs::perms::group_read);
}

// Root changes the file of a gateway that runs as somebody else.
TEST(ApiKeysTest, AFileThatIsReplacedKeepsItsOwnerAndMode) {
  if (geteuid() != 0) {
    GTEST_SKIP() << "only root may give files away";
  }
  const TempDir folder;
  const std::string path = folder.path() / "keys.json";
  ASSERT_TRUE(WriteApiKeysFile(path, {}).ok());
  ASSERT_EQ(chown(path.c_str(), 65532, 65533), 0);
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  ASSERT_TRUE(WriteApiKeysFile(path, {}).ok());
  struct stat after {};
  ASSERT_EQ(stat(path.c_str(), &after), 0);
  EXPECT_EQ(after.st_uid, 65532U);
  EXPECT_EQ(after.st_gid, 65533U);
  EXPECT_EQ(after.st_mode & 0777U, 0640U);
}

TEST(ApiKeysTest, NewKeysAreLongAndDifferent) {
  const auto one = NewKey();
  const auto other = NewKey();
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_EQ(one->size(), 3 + 43U);
  EXPECT_EQ(one->substr(0, 3), "yt-");
  EXPECT_NE(*one, *other);
}

}  // namespace
}  // namespace yangtuo
