#include "services/common/log.h"

#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace yangtuo {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

// What `body` writes to standard error.
template <typename Body>
std::string Logged(Body body) {
  ::testing::internal::CaptureStderr();
  body();
  return ::testing::internal::GetCapturedStderr();
}

nlohmann::json LoggedJson(std::initializer_list<LogField> fields, std::string_view event = "e") {
  ConfigureLog("prog", LogLevel::kInfo, LogFormat::kJson);
  return nlohmann::json::parse(Logged([&] { Log(LogLevel::kWarning, event, fields); }));
}

TEST(LogTest, WritesOneJsonObjectWithTimeLevelProgramEventAndFields) {
  const nlohmann::json line = LoggedJson(
      {{"text", std::string("x")}, {"whole", std::int64_t{-3}}, {"real", 0.5}, {"yes", true}},
      "worker connected");

  EXPECT_THAT(line["time"].get<std::string>(),
              MatchesRegex("20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9:]+[.][0-9][0-9][0-9]Z"));
  EXPECT_EQ(line["level"], "warning");
  EXPECT_EQ(line["program"], "prog");
  EXPECT_EQ(line["event"], "worker connected");
  EXPECT_EQ(line["text"], "x");
  EXPECT_EQ(line["whole"], -3);
  EXPECT_EQ(line["real"], 0.5);
  EXPECT_EQ(line["yes"], true);
}

TEST(LogTest, EscapesQuotesBackslashesAndControlCharactersInJson) {
  const std::string text = std::string("a\"b\\c\nd\te\x01\x7F 羊") + '\0' + "end";

  EXPECT_EQ(LoggedJson({{"text", text}})["text"], text);
}

TEST(LogTest, WritesValidJsonForInvalidUtf8) {
  EXPECT_EQ(LoggedJson({{"text", std::string("a\xFF\xE7\xBE")}})["text"],
            "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(LogTest, WritesValidJsonForNumbersThatJsonDoesNotHave) {
  EXPECT_EQ(LoggedJson({{"x", std::numeric_limits<double>::infinity()}})["x"], "inf");
}

TEST(LogTest, WritesTextAsKeysAndValuesAndQuotesOnlyWhatNeedsIt) {
  ConfigureLog("prog", LogLevel::kInfo, LogFormat::kText);

  const std::string line = Logged([] {
    Log(LogLevel::kError, "it failed", {{"peer", std::string("a:1")}, {"why", std::string("x y")}});
  });

  EXPECT_THAT(line, HasSubstr("Z error   prog: it failed peer=a:1 why=\"x y\"\n"));
}

TEST(LogTest, KeepsATextEventOnOneLineWhateverItsFieldsHold) {
  ConfigureLog("prog", LogLevel::kInfo, LogFormat::kText);

  const std::string line = Logged([] {
    Log(LogLevel::kInfo, "e", {{"x", std::string("one\ntwo\r=\x1b[31m")}});
  });

  EXPECT_THAT(line, EndsWith("x=\"one\\ntwo\\u000d=\\u001b[31m\"\n"));
}

TEST(LogTest, LeavesOutWhatIsBelowTheLevel) {
  ConfigureLog("prog", LogLevel::kWarning, LogFormat::kText);

  EXPECT_EQ(Logged([] { Log(LogLevel::kInfo, "e"); }), "");
  EXPECT_NE(Logged([] { Log(LogLevel::kWarning, "e"); }), "");
}

TEST(LogTest, NeverMixesLinesOfSeveralThreads) {
  ConfigureLog("prog", LogLevel::kInfo, LogFormat::kJson);

  const std::string lines = Logged([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 100; ++i) {
          Log(LogLevel::kInfo, "event", {{"x", std::string(200, 'y')}});
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  });

  int count = 0;
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line); ++count) {
    EXPECT_TRUE(nlohmann::json::accept(line)) << line;
  }
  EXPECT_EQ(count, 400);
}

}  // namespace
}  // namespace yangtuo
