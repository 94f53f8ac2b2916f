#include "gateway/stop_matcher.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo::gateway {
namespace {

struct Outcome {
  std::string text;
  std::string stop;  // empty: none found

  bool operator==(const Outcome&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
  return out << "\"" << outcome.text << "\" stopped by \"" << outcome.stop << "\"";
}

// The definition, by search: the first byte at which some stop string ends, and the longest there.
Outcome NaiveSearch(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t end = 1; end <= text.size(); ++end) {
    std::string longest;
    for (const std::string& stop : stops) {
      if (stop.size() <= end && text.compare(end - stop.size(), stop.size(), stop) == 0 &&
          stop.size() > longest.size()) {
        longest = stop;
      }
    }
    if (!longest.empty()) {
      return {text.substr(0, end - longest.size()), longest};
    }
  }
  return {text, ""};
}

// How many bytes at the end of `text` are a proper prefix of some stop string.
std::size_t NaiveHold(const std::string& text, const std::vector<std::string>& stops) {
  for (std::size_t start = 0; start < text.size(); ++start) {
    for (const std::string& stop : stops) {
      if (stop.starts_with(text.substr(start))) {
        return text.size() - start;
      }
    }
  }
  return 0;
}

TEST(StopMatcherTest, ReleasesEverythingWithoutStopStrings) {
  StopMatcher matcher({});
  std::string released;
  EXPECT_FALSE(matcher.Push("text", released));
  EXPECT_EQ(released, "text");
}

TEST(StopMatcherTest, EndsTheTextBeforeTheStopString) {
  StopMatcher matcher({"END"});
  std::string released;
  EXPECT_FALSE(matcher.Push("some E", released));
  EXPECT_EQ(released, "some ");
  EXPECT_TRUE(matcher.Push("ND and more", released));
  EXPECT_EQ(released, "some ");
  EXPECT_EQ(matcher.found(), "END");
}

TEST(StopMatcherTest, ReleasesAFalseStartAsSoonAsItIsOne) {
  StopMatcher matcher({"abac"});
  std::string released;
  matcher.Push("aba", released);
  EXPECT_EQ(released, "");
  matcher.Push("b", released);  // "ab" may still begin one
  EXPECT_EQ(released, "ab");
}

TEST(StopMatcherTest, ReleasesWhatItHeldWhenTheTextEnds) {
  StopMatcher matcher({"END"});
  std::string released;
  matcher.Push("the EN", released);
  matcher.Finish(released);
  EXPECT_EQ(released, "the EN");
}

TEST(StopMatcherTest, NeverReleasesPartOfACharacter) {
  StopMatcher matcher({"。\n"});
  std::string released;
  matcher.Push("白日。", released);
  EXPECT_EQ(released, "白日");
  matcher.Push("黄", released);
  EXPECT_EQ(released, "白日。黄");
}

TEST(StopMatcherTest, AgreesWithSearchOnRandomTextsHoweverTheyAreCut) {
  std::mt19937 random(7);
  const auto draw = [&](std::size_t low, std::size_t high) {
    return std::uniform_int_distribution<std::size_t>(low, high)(random);
  };
  const auto word = [&](std::size_t low, std::size_t high) {
    std::string text(draw(low, high), ' ');
    for (char& c : text) {
      c = static_cast<char>('a' + draw(0, 2));
    }
    return text;
  };
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::string> stops(draw(1, 4));
    for (std::string& stop : stops) {
      stop = word(1, 6);
    }
    const std::string text = word(0, 30);
    const Outcome expected = NaiveSearch(text, stops);
    StopMatcher matcher(stops);
    std::string released;
    std::string pushed;
    while (pushed.size() < text.size() && !matcher.found().has_value()) {
      const std::string part = text.substr(pushed.size(), draw(1, 5));
      pushed += part;
      if (!matcher.Push(part, released)) {
        ASSERT_EQ(released.size() + NaiveHold(pushed, stops), pushed.size()) << pushed;
      }
    }
    matcher.Finish(released);
    ASSERT_EQ((Outcome{released, matcher.found().value_or("")}), expected)
        << text << " / " << ::testing::PrintToString(stops);
  }
}

}  // namespace
}  // namespace yangtuo::gateway
