#include "services/inference/peer_pulse.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr TimePoint kStart = TimePoint(seconds(1000));

PeerPulse Pulse() { return PeerPulse(ShardTiming{.step_limit = seconds(10)}, kStart); }

TEST(PeerPulseTest, SilenceIsFoundWithinThreeSeconds) {
  PeerPulse pulse = Pulse();
  pulse.Heard(kStart + seconds(5));
  EXPECT_TRUE(pulse.Check(kStart + seconds(5) + milliseconds(2400)).ok());
  const absl::Status lost = pulse.Check(kStart + seconds(5) + milliseconds(2900));
  EXPECT_TRUE(absl::IsUnavailable(lost));
  EXPECT_THAT(std::string(lost.message()), HasSubstr("no sign of life for 2.9 s"));
}

TEST(PeerPulseTest, HeartbeatsWithoutProgressDoNotHideAHungPeer) {
  PeerPulse pulse = Pulse();
  pulse.StepSent(1, kStart);
  pulse.StepSent(2, kStart);
  pulse.Counters(1, 0, kStart + seconds(1));
  for (int s = 2; s <= 12; ++s) {
    pulse.Heard(kStart + seconds(s));
    pulse.Counters(1, 0, kStart + seconds(s));
  }
  EXPECT_TRUE(pulse.Check(kStart + seconds(11)).ok());
  EXPECT_THAT(std::string(pulse.Check(kStart + seconds(12)).message()),
              HasSubstr("2 steps pending without progress"));
}

TEST(PeerPulseTest, APeerWithoutWorkIsNeverHung) {
  PeerPulse pulse = Pulse();
  pulse.StepSent(1, kStart);
  ASSERT_TRUE(pulse.StepAnswered(1, kStart + seconds(1)).ok());
  pulse.Heard(kStart + seconds(60));
  EXPECT_TRUE(pulse.Check(kStart + seconds(60)).ok());
  pulse.StepSent(2, kStart + seconds(60));
  EXPECT_TRUE(pulse.Check(kStart + seconds(61)).ok());
}

TEST(PeerPulseTest, AnswersComeInTheOrderOfTheSteps) {
  PeerPulse pulse = Pulse();
  EXPECT_TRUE(absl::IsDataLoss(pulse.StepAnswered(1, kStart)));
  pulse.StepSent(1, kStart);
  pulse.StepSent(2, kStart);
  EXPECT_TRUE(absl::IsDataLoss(pulse.StepAnswered(2, kStart)));
  EXPECT_TRUE(pulse.StepAnswered(1, kStart).ok());
  EXPECT_TRUE(absl::IsDataLoss(pulse.StepAnswered(1, kStart)));
  EXPECT_TRUE(pulse.StepAnswered(2, kStart).ok());
}

TEST(PeerPulseTest, AHeartbeatIsDueHalfASecondAfterTheLastFrame) {
  PeerPulse pulse = Pulse();
  pulse.Sent(kStart + seconds(1));
  EXPECT_FALSE(pulse.HeartbeatDue(kStart + milliseconds(1499)));
  EXPECT_TRUE(pulse.HeartbeatDue(kStart + milliseconds(1500)));
}

}  // namespace
}  // namespace yangtuo
