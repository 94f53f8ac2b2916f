#include "services/common/trace_context.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using ::testing::Eq;

constexpr char kExample[] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

TEST(TraceparentTest, ReadsTheStandardsExample) {
  const auto context = ParseTraceparent(kExample);
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(ToHex(context->trace_id), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(ToHex(context->span_id), "b7ad6b7169203331");
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(ToTraceparent(*context), kExample);
}

TEST(TraceparentTest, OnlyTheFirstFlagSaysWhetherTheTraceIsRecorded) {
  const auto flags = [](const std::string& text) {
    return ParseTraceparent(std::string(kExample, 53) + text)->sampled;
  };
  EXPECT_FALSE(flags("00"));
  EXPECT_TRUE(flags("03"));
  EXPECT_FALSE(flags("fe"));
}

TEST(TraceparentTest, TakesLaterVersionsThatBeginTheSame) {
  const std::string later = "cc" + std::string(kExample + 2);
  EXPECT_TRUE(ParseTraceparent(later).has_value());
  EXPECT_TRUE(ParseTraceparent(later + "-what-comes-next").has_value());
  EXPECT_FALSE(ParseTraceparent(later + ".what").has_value());
}

TEST(TraceparentTest, IgnoresWhatIsNone) {
  const std::string good(kExample);
  const auto changed = [&good](std::size_t at, char to) {
    std::string text = good;
    text[at] = to;
    return ParseTraceparent(text);
  };
  EXPECT_THAT(ParseTraceparent(""), Eq(std::nullopt));
  EXPECT_THAT(ParseTraceparent(good.substr(0, 54)), Eq(std::nullopt));
  EXPECT_THAT(ParseTraceparent(good + "-00"), Eq(std::nullopt)) << "version 00 ends here";
  EXPECT_THAT(ParseTraceparent("ff" + good.substr(2)), Eq(std::nullopt));
  EXPECT_THAT(ParseTraceparent("00-" + std::string(32, '0') + good.substr(35)), Eq(std::nullopt));
  EXPECT_THAT(ParseTraceparent(good.substr(0, 36) + std::string(16, '0') + "-01"),
              Eq(std::nullopt));
  EXPECT_THAT(changed(2, '_'), Eq(std::nullopt));
  EXPECT_THAT(changed(10, 'A'), Eq(std::nullopt)) << "capitals are not allowed";
  EXPECT_THAT(changed(10, 'g'), Eq(std::nullopt));
  EXPECT_THAT(changed(54, ' '), Eq(std::nullopt));
}

TEST(TracestateTest, TravelsWhenItIsPrintableAndShort) {
  EXPECT_TRUE(IsValidTracestate("vendor=t61rcWkgMzE,other@x=1"));
  EXPECT_FALSE(IsValidTracestate(""));
  EXPECT_FALSE(IsValidTracestate("a=\xC3\xA4"));
  EXPECT_FALSE(IsValidTracestate("a=1\n"));
  EXPECT_FALSE(IsValidTracestate(std::string(513, 'a')));
}

TEST(SampleTest, TakesTheShareThatIsAskedFor) {
  int taken = 0;
  for (int i = 0; i < 10'000; ++i) {
    taken += IsInSample(NewTraceId(), 0.25) ? 1 : 0;
  }
  EXPECT_NEAR(taken, 2500, 400);  // nine standard deviations
  EXPECT_TRUE(IsInSample(NewTraceId(), 1));
  EXPECT_FALSE(IsInSample(NewTraceId(), 0));
}

TEST(SampleTest, ATraceOfASmallerShareIsInEveryLargerOne) {
  for (int i = 0; i < 1000; ++i) {
    const TraceId id = NewTraceId();
    EXPECT_LE(IsInSample(id, 0.3), IsInSample(id, 0.6));
  }
}

}  // namespace
}  // namespace yangtuo
