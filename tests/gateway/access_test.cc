// Who may call, and how much: with times that the test sets.

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "gateway/access/access_control.h"
#include "gateway/access/audit_log.h"
#include "gateway/access/token_bucket.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo::gateway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Pair;

const TimePoint kStart = TimePoint(seconds(1000));

TEST(TokenBucketTest, IsFullAtFirstAndFillsSteadily) {
  TokenBucket bucket(60, kStart);
  EXPECT_EQ(bucket.Level(kStart), 60);
  bucket.Take(60, kStart);
  EXPECT_EQ(bucket.Level(kStart), 0);
  EXPECT_EQ(bucket.Level(kStart + seconds(10)), 10);
  EXPECT_EQ(bucket.Level(kStart + seconds(600)), 60) << "a minute's worth at most";
}

TEST(TokenBucketTest, SaysWhenThereIsEnough) {
  TokenBucket bucket(60, kStart);
  bucket.Take(60, kStart);
  EXPECT_EQ(bucket.UntilLevel(1, kStart), seconds(1));
  EXPECT_EQ(bucket.UntilLevel(1, kStart + milliseconds(400)), milliseconds(600));
  EXPECT_EQ(bucket.UntilLevel(1, kStart + seconds(1)), seconds(0));
}

TEST(TokenBucketTest, ADebtIsWorkedOff) {
  TokenBucket bucket(600, kStart);
  bucket.Take(1600, kStart);
  EXPECT_EQ(bucket.Level(kStart), -1000);
  EXPECT_EQ(bucket.UntilLevel(0, kStart), seconds(100));
}

TEST(TokenBucketTest, ANewRateKeepsTheShareThatWasUsed) {
  TokenBucket bucket(600, kStart);
  bucket.Take(300, kStart);
  bucket.SetRate(60, kStart);
  EXPECT_EQ(bucket.Level(kStart), 30);
  bucket.SetRate(6000, kStart);
  EXPECT_EQ(bucket.Level(kStart), 3000);
}

TEST(TokenBucketTest, TimeThatGoesBackGivesNothing) {
  TokenBucket bucket(60, kStart);
  bucket.Take(60, kStart);
  bucket.Take(0, kStart - seconds(30));
  EXPECT_EQ(bucket.Level(kStart), 0);
}

ApiKey KeyWith(std::optional<std::uint32_t> requests, std::optional<std::uint32_t> tokens,
               std::optional<std::uint32_t> at_a_time) {
  ApiKey key;
  key.tenant = "t";
  key.requests_per_minute = requests;
  key.tokens_per_minute = tokens;
  key.max_requests = at_a_time;
  return key;
}

TEST(KeyAccountTest, RefusesRequestsAboveTheRateAndSaysWhenToComeBack) {
  KeyAccount account(KeyWith(2, {}, {}), kStart);
  EXPECT_TRUE(account.Enter(1, kStart).ok());
  EXPECT_TRUE(account.Enter(1, kStart).ok());
  const absl::Status refused = account.Enter(1, kStart);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused), "REQUEST_RATE");
  EXPECT_THAT(std::string(refused.message()), HasSubstr("30.0 s"));
  EXPECT_FALSE(account.Enter(1, kStart + seconds(29)).ok());
  EXPECT_TRUE(account.Enter(1, kStart + seconds(30)).ok());
}

TEST(KeyAccountTest, TokensMayBeOverdrawnOnceAndThenNothingBegins) {
  KeyAccount account(KeyWith({}, 600, {}), kStart);
  EXPECT_TRUE(account.Enter(1, kStart).ok());
  account.ChargeTokens(1200, kStart);
  const absl::Status refused = account.Enter(1, kStart);
  EXPECT_EQ(ReasonOf(refused), "TOKEN_RATE");
  EXPECT_EQ(account.Tokens(kStart)->remaining, 0U);
  EXPECT_FALSE(account.Enter(1, kStart + seconds(60)).ok());
  EXPECT_TRUE(account.Enter(1, kStart + seconds(61)).ok());
}

TEST(KeyAccountTest, RefusedRequestsCountNothing) {
  KeyAccount account(KeyWith(10, {}, 1), kStart);
  EXPECT_TRUE(account.Enter(1, kStart).ok());
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(ReasonOf(account.Enter(1, kStart)), "TENANT_REQUESTS");
  }
  EXPECT_EQ(account.Requests(kStart)->remaining, 9U);
  account.Leave(1);
  EXPECT_TRUE(account.Enter(1, kStart).ok());
}

TEST(KeyAccountTest, ACallWithMorePromptsThanMayRunEntersAlone) {
  KeyAccount account(KeyWith({}, {}, 2), kStart);
  EXPECT_TRUE(account.Enter(5, kStart).ok());
  EXPECT_FALSE(account.Enter(1, kStart).ok());
  account.Leave(5);
  EXPECT_TRUE(account.Enter(1, kStart).ok());
}

TEST(CallerTest, PrioritiesAreCapped) {
  Caller caller;
  EXPECT_TRUE(caller.CheckPriority(100).ok());
  EXPECT_EQ(caller.PriorityFor(100), 100);
  caller.max_priority = -10;
  EXPECT_EQ(ReasonOf(caller.CheckPriority(5)), "PRIORITY_NOT_ALLOWED");
  EXPECT_TRUE(caller.CheckPriority(0).ok()) << "0 is no wish";
  EXPECT_EQ(caller.PriorityFor(0), -10);
  EXPECT_EQ(caller.PriorityFor(-50), -50);
}

class AccessControlTest : public ::testing::Test {
 protected:
  void Write(const std::vector<ApiKey>& keys) { ASSERT_TRUE(WriteApiKeysFile(path_, keys).ok()); }
  void WriteText(const std::string& text) { std::ofstream(path_, std::ios::trunc) << text; }
  void Open() {
    auto access = AccessControl::Open(path_, metrics_, kStart);
    ASSERT_TRUE(access.ok()) << access.status();
    access_ = *std::move(access);
  }
  std::string ReasonFor(const std::string& authorization) {
    return ReasonOf(access_->Authenticate(authorization).status());
  }
  static ApiKey KeyOf(const std::string& text, const std::string& tenant) {
    ApiKey key;
    key.digest = DigestOfKey(text);
    key.tenant = tenant;
    return key;
  }

  const TempDir folder_;
  const std::string path_ = folder_.path() / "keys.json";
  Metrics metrics_;
  std::unique_ptr<AccessControl> access_;
};

TEST_F(AccessControlTest, WithoutAFileEverybodyMayDoEverything) {
  auto access = AccessControl::Open("", metrics_, kStart);
  ASSERT_TRUE(access.ok());
  const auto caller = (*access)->Authenticate("");
  ASSERT_TRUE(caller.ok());
  EXPECT_EQ((*caller)->tenant, "");
  EXPECT_TRUE((*caller)->MayUse("anything"));
  EXPECT_TRUE(Visit::Enter(**caller, 1000, kStart).ok());
}

TEST_F(AccessControlTest, ABrokenFileIsRefusedAtTheStart) {
  EXPECT_FALSE(AccessControl::Open(path_, metrics_, kStart).ok());
  WriteText("{");
  const auto access = AccessControl::Open(path_, metrics_, kStart);
  EXPECT_THAT(std::string(access.status().message()), HasSubstr(path_));
}

TEST_F(AccessControlTest, TellsWhoseKeyItIs) {
  Write({KeyOf("one", "a"), KeyOf("two", "b"), KeyOf("three", "c")});
  Open();
  EXPECT_EQ((*access_->Authenticate("Bearer one"))->tenant, "a");
  EXPECT_EQ((*access_->Authenticate("bearer  two "))->tenant, "b");
  EXPECT_EQ((*access_->Authenticate("BEARER three"))->tenant, "c");
  EXPECT_EQ(ReasonFor(""), "MISSING_API_KEY");
  EXPECT_EQ(ReasonFor("Bearer"), "MISSING_API_KEY");
  EXPECT_EQ(ReasonFor("Basic b25lOg=="), "MISSING_API_KEY");
  EXPECT_EQ(ReasonFor("Bearer four"), "INVALID_API_KEY");
  EXPECT_EQ(ReasonFor("Bearer " + std::string(100'000, 'x')), "MISSING_API_KEY");
  EXPECT_THAT(metrics_.Expose(),
              HasSubstr("yangtuo_unauthenticated_total{reason=\"INVALID_API_KEY\"} 1"));
}

TEST_F(AccessControlTest, TheDigestOfAKeyIsNotAKey) {
  Write({KeyOf("one", "a")});
  Open();
  EXPECT_EQ(ReasonFor("Bearer 7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"),
            "INVALID_API_KEY");
}

TEST_F(AccessControlTest, ExpiredKeysAreRefused) {
  ApiKey old = KeyOf("old", "a");
  old.expires = absl::Now() - absl::Seconds(1);
  ApiKey current = KeyOf("current", "a");
  current.expires = absl::Now() + absl::Hours(1);
  Write({old, current});
  Open();
  EXPECT_EQ(ReasonFor("Bearer old"), "EXPIRED_API_KEY");
  EXPECT_TRUE(access_->Authenticate("Bearer current").ok());
}

TEST_F(AccessControlTest, AChangedFileIsReadAgain) {
  Write({KeyOf("one", "a")});
  Open();
  Write({KeyOf("two", "b")});
  access_->ReloadIfChanged(kStart);
  EXPECT_EQ(ReasonFor("Bearer one"), "INVALID_API_KEY");
  EXPECT_TRUE(access_->Authenticate("Bearer two").ok());
}

TEST_F(AccessControlTest, ABrokenChangeKeepsTheOldKeysAndIsTold) {
  Write({KeyOf("one", "a")});
  Open();
  EXPECT_THAT(metrics_.Expose(), HasSubstr("yangtuo_api_keys_file_valid 1"));
  for (const std::string& broken : {std::string("{\"keys\": [{\"tenant\""), std::string()}) {
    WriteText(broken);
    access_->ReloadIfChanged(kStart);
    EXPECT_TRUE(access_->Authenticate("Bearer one").ok());
    EXPECT_THAT(metrics_.Expose(), HasSubstr("yangtuo_api_keys_file_valid 0"));
  }
  std::filesystem::remove(path_);
  access_->ReloadIfChanged(kStart);
  EXPECT_TRUE(access_->Authenticate("Bearer one").ok());
  Write({KeyOf("one", "a"), KeyOf("two", "b")});
  access_->ReloadIfChanged(kStart);
  EXPECT_TRUE(access_->Authenticate("Bearer two").ok());
  EXPECT_THAT(metrics_.Expose(), HasSubstr("yangtuo_api_keys_file_valid 1"));
  EXPECT_THAT(metrics_.Expose(), HasSubstr("yangtuo_api_keys 2"));
}

TEST_F(AccessControlTest, WhatWasUsedStaysUsedWhenTheFileChanges) {
  ApiKey key = KeyOf("one", "a");
  key.requests_per_minute = 1;
  key.max_requests = 1;
  Write({key});
  Open();
  const auto caller = *access_->Authenticate("Bearer one");
  const auto visit = Visit::Enter(*caller, 1, kStart);
  ASSERT_TRUE(visit.ok());
  key.note = "changed";
  Write({key});
  access_->ReloadIfChanged(kStart);
  const auto again = *access_->Authenticate("Bearer one");
  EXPECT_EQ(ReasonOf(Visit::Enter(*again, 1, kStart).status()), "TENANT_REQUESTS");
  key.max_requests.reset();
  Write({key});
  access_->ReloadIfChanged(kStart);
  EXPECT_EQ(ReasonOf(Visit::Enter(*again, 1, kStart).status()), "REQUEST_RATE");
}

TEST_F(AccessControlTest, AVisitEndsWhenItIsDropped) {
  ApiKey key = KeyOf("one", "a");
  key.max_requests = 1;
  Write({key});
  Open();
  const auto caller = *access_->Authenticate("Bearer one");
  {
    const auto visit = Visit::Enter(*caller, 1, kStart);
    EXPECT_FALSE(Visit::Enter(*caller, 1, kStart).ok());
  }
  EXPECT_TRUE(Visit::Enter(*caller, 1, kStart).ok());
}

TEST_F(AccessControlTest, HeadersTellWhatIsLeft) {
  ApiKey key = KeyOf("one", "a");
  key.requests_per_minute = 60;
  key.tokens_per_minute = 6000;
  Write({key});
  Open();
  const auto caller = *access_->Authenticate("Bearer one");
  const auto visit = *Visit::Enter(*caller, 1, kStart);
  visit->ChargeTokens(150, kStart);
  const auto headers = RateLimitHeaders(*caller, kStart);
  EXPECT_THAT(headers, Contains(Pair("x-ratelimit-limit-requests", "60")));
  EXPECT_THAT(headers, Contains(Pair("x-ratelimit-remaining-requests", "59")));
  EXPECT_THAT(headers, Contains(Pair("x-ratelimit-reset-requests", "1s")));
  EXPECT_THAT(headers, Contains(Pair("x-ratelimit-remaining-tokens", "5850")));
  EXPECT_THAT(headers, Contains(Pair("x-ratelimit-reset-tokens", "1.5s")));
  EXPECT_TRUE(RateLimitHeaders(Caller{}, kStart).empty());
}

class AuditLogTest : public ::testing::Test {
 protected:
  [[nodiscard]] static std::vector<nlohmann::json> Lines(const std::string& path) {
    std::vector<nlohmann::json> lines;
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);) {
      lines.push_back(nlohmann::json::parse(line));
    }
    return lines;
  }

  const TempDir folder_;
  const std::string path_ = folder_.path() / "audit.log";
  Metrics metrics_;
};

TEST_F(AuditLogTest, WritesALineOfJsonForEveryEntryAndAppends) {
  for (int i = 0; i < 2; ++i) {
    auto log = AuditLog::Open(path_, AuditLog::Prompts::kLeftOut, metrics_);
    ASSERT_TRUE(log.ok()) << log.status();
    (*log)->Write({.request_id = "r\n\xff",
                   .tenant = "租户",
                   .endpoint = "/v1/completions",
                   .status = "OK",
                   .prompt_tokens = 7,
                   .time_to_first_token = milliseconds(250)});
  }
  const auto lines = Lines(path_);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[1]["tenant"], "租户");
  EXPECT_EQ(lines[1]["prompt_tokens"], 7);
  EXPECT_EQ(lines[1]["ttft_seconds"], 0.25);
  EXPECT_FALSE(lines[1].contains("prompt"));
  namespace fs = std::filesystem;
  EXPECT_EQ(fs::status(path_).permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(AuditLogTest, GoesOnInANewFileAfterARotation) {
  auto log = *AuditLog::Open(path_, AuditLog::Prompts::kLeftOut, metrics_);
  log->Write({.request_id = "1"});
  std::filesystem::rename(path_, path_ + ".1");
  log->Write({.request_id = "2"});
  log->ReopenIfMoved();
  log->Write({.request_id = "3"});
  EXPECT_EQ(Lines(path_ + ".1").size(), 2U);
  ASSERT_EQ(Lines(path_).size(), 1U);
  EXPECT_EQ(Lines(path_)[0]["request_id"], "3");
}

TEST_F(AuditLogTest, LinesThatCannotBeWrittenAreCounted) {
  if (!std::filesystem::exists("/dev/full")) {
    GTEST_SKIP() << "there is no /dev/full here";
  }
  auto log = *AuditLog::Open("/dev/full", AuditLog::Prompts::kLeftOut, metrics_);
  log->Write({.request_id = "1"});
  EXPECT_THAT(metrics_.Expose(), HasSubstr("yangtuo_audit_lines_lost_total 1"));
  EXPECT_FALSE(
      AuditLog::Open(folder_.path() / "no" / "such", AuditLog::Prompts::kLeftOut, metrics_).ok());
}

}  // namespace
}  // namespace yangtuo::gateway
