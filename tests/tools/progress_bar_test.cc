#include "tools/common/progress_bar.h"

#include <chrono>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using std::chrono::seconds;

TEST(FormatBytesTest, CountsInPowersOfAThousand) {
  EXPECT_EQ(FormatBytes(0), "0 bytes");
  EXPECT_EQ(FormatBytes(999), "999 bytes");
  EXPECT_EQ(FormatBytes(1500), "1.5 kB");
  EXPECT_EQ(FormatBytes(999'960), "1.0 MB");
  EXPECT_EQ(FormatBytes(13'476'839'424), "13.5 GB");
}

TEST(FormatSecondsTest, HasTwoUnitsAtMost) {
  EXPECT_EQ(FormatSeconds(0.4), "0 s");
  EXPECT_EQ(FormatSeconds(59.6), "1 min 0 s");
  EXPECT_EQ(FormatSeconds(200), "3 min 20 s");
  EXPECT_EQ(FormatSeconds(7500), "2 h 5 min");
}

TEST(FormatWorkDoneTest, ShowsPartRateAndTimeLeft) {
  const WorkDone work{
      .what = "merging", .done = 5'000'000'000, .total = 20'000'000'000, .elapsed = seconds(25)};
  EXPECT_EQ(FormatWorkDone(work, 0), "merging  25% 5.0 GB of 20.0 GB  200.0 MB/s  1 min 15 s left");
  EXPECT_EQ(
      FormatWorkDone(work, 100),
      "merging  25% [######------------------] 5.0 GB of 20.0 GB  200.0 MB/s  1 min 15 s left");
}

TEST(FormatWorkDoneTest, SaysNothingOfARateBeforeThereIsOne) {
  EXPECT_EQ(FormatWorkDone({.what = "reading", .done = 0, .total = 10, .elapsed = {}}, 0),
            "reading   0% 0 bytes of 10 bytes");
}

TEST(FormatWorkDoneTest, IsNeverWiderThanTheTerminal) {
  const WorkDone work{.what = "converting", .done = 1, .total = 2, .elapsed = seconds(1)};
  EXPECT_EQ(FormatWorkDone(work, 20).size(), 19U + 3U) << "an ellipsis has three bytes";
}

TEST(FormatWorkDoneTest, NothingToDoIsAllDone) {
  EXPECT_EQ(FormatWorkDone({.what = "reading", .done = 0, .total = 0, .elapsed = {}}, 0),
            "reading 100% 0 bytes of 0 bytes");
}

TEST(ProgressBarTest, InAPipeALineComesEveryFewSeconds) {
  const TimePoint begin{};
  ::testing::internal::CaptureStderr();
  {
    ProgressBar bar(Terminal{}, "merging", 100, begin);
    bar.Show(1, begin + seconds(1));
    bar.Show(50, begin + seconds(6));
    bar.Show(51, begin + seconds(7));
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "merging  50% 50 bytes of 100 bytes  8 bytes/s  6 s left\n");
}

TEST(ProgressBarTest, OnATerminalTheLineIsRedrawnAndTakenAway) {
  const TimePoint begin{};
  Terminal terminal;
  terminal.interactive = true;
  terminal.columns = 60;
  ::testing::internal::CaptureStderr();
  {
    ProgressBar bar(terminal, "merging", 100, begin);
    bar.Show(50, begin + seconds(5));
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(),
            "\r\033[Kmerging  50% 50 bytes of 100 bytes  10 bytes/s  5 s left\r\033[K");
}

}  // namespace
}  // namespace yangtuo
