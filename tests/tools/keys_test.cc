#include "tools/keys/keys.h"

#include <string>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class KeysTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::string> Add(const std::string& tenant, const std::string& expires = "") {
    NewKeyOptions options{.file = file_, .key = {}, .expires = expires};
    options.key.tenant = tenant;
    options.key.requests_per_minute = 60;
    return AddKey(options);
  }

  const TempDir folder_;
  const std::string file_ = folder_.path() / "keys.json";
};

TEST_F(KeysTest, TheFileHasTheDigestAndNeverTheKey) {
  const auto first = Add("a");
  const auto second = Add("b");
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  const auto keys = ReadApiKeysFile(file_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  ASSERT_EQ(keys->size(), 2U);
  EXPECT_EQ((*keys)[0].digest, DigestOfKey(*first));
  EXPECT_EQ((*keys)[1].digest, DigestOfKey(*second));
  EXPECT_THAT(FormatApiKeys(*keys), Not(HasSubstr(*first)));
}

TEST_F(KeysTest, WhatTheGatewayWouldRefuseIsNotWritten) {
  ASSERT_TRUE(Add("a").ok());
  EXPECT_THAT(std::string(Add("").status().message()), HasSubstr("keys[1].tenant"));
  EXPECT_THAT(std::string(Add("b", "soon").status().message()), HasSubstr("--expires"));
  EXPECT_FALSE(Add("b", "-5h").ok());
  EXPECT_EQ(ReadApiKeysFile(file_)->size(), 1U);
}

TEST_F(KeysTest, ExpiryIsATimeOrADuration) {
  ASSERT_TRUE(Add("a", "2030-01-02T03:04:05Z").ok());
  ASSERT_TRUE(Add("b", "2h").ok());
  const auto keys = ReadApiKeysFile(file_);
  EXPECT_EQ(absl::ToUnixSeconds(*(*keys)[0].expires), 1893553445);
  EXPECT_NEAR(absl::ToDoubleMinutes(*(*keys)[1].expires - absl::Now()), 120, 1);
}

TEST_F(KeysTest, ListsAndRemoves) {
  ASSERT_TRUE(Add("first", "2000-01-01T00:00:00Z").ok());
  ASSERT_TRUE(Add("second").ok());
  const auto table = ListKeys(file_);
  ASSERT_TRUE(table.ok());
  const std::string id = ReadApiKeysFile(file_)->front().Id();
  for (const std::string& word : {id, std::string("first"), std::string("60"),
                                  std::string("2000-01-01 00:00 (past)"), std::string("never")}) {
    EXPECT_THAT(*table, HasSubstr(word));
  }
  EXPECT_TRUE(absl::IsNotFound(RemoveKey(file_, "zzzzzzzz")));
  EXPECT_TRUE(absl::IsInvalidArgument(RemoveKey(file_, "a")));
  EXPECT_TRUE(RemoveKey(file_, id).ok());
  ASSERT_EQ(ReadApiKeysFile(file_)->size(), 1U);
  EXPECT_EQ(ReadApiKeysFile(file_)->front().tenant, "second");
  EXPECT_TRUE(absl::IsNotFound(ListKeys(folder_.path() / "none").status()));
}

}  // namespace
}  // namespace yangtuo
