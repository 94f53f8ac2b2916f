#include <array>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "gateway/circuit_breaker.h"
#include "gateway/group_pace.h"
#include "gateway/prefix_index.h"
#include "gateway/worker_choice.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/kv_cache/block_key.h"

namespace yangtuo::gateway {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

std::vector<std::uint32_t> Ids(std::size_t count, std::uint32_t first = 100) {
  std::vector<std::uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

internal::v1::PrefixScheme SchemeOf(std::uint32_t block_size) {
  internal::v1::PrefixScheme scheme;
  scheme.set_scheme(std::string(kPrefixScheme));
  scheme.set_block_size(block_size);
  const BlockKey root = RootBlockKey("numerics", static_cast<std::int32_t>(block_size));
  scheme.set_root(root.data(), root.size());
  return scheme;
}

TEST(PrefixKeysTest, AreTheKeysThatWorkersGiveToTheirBlocks) {
  constexpr std::int32_t kBlock = 32;
  const internal::v1::PrefixScheme scheme = SchemeOf(kBlock);
  for (const std::string salt : {"", "tenant"}) {
    const std::vector<std::uint32_t> prompt = Ids(3 * kBlock + 5);
    const std::vector<PrefixKey> keys = PrefixKeys(scheme, salt, prompt);
    ASSERT_EQ(keys.size(), 3U);
    BlockKeyHasher hasher;
    BlockKey parent = SaltedBlockKey(RootBlockKey("numerics", kBlock), salt);
    for (std::size_t block = 0; block < keys.size(); ++block) {
      const std::vector<std::int32_t> ids(
          prompt.begin() + static_cast<std::ptrdiff_t>(block) * 32,
          prompt.begin() + static_cast<std::ptrdiff_t>(block) * 32 + 32);
      parent = hasher.Next(parent, ids);
      EXPECT_EQ(keys[block], parent) << block;
    }
  }
}

TEST(PrefixKeysTest, LeaveOneTokenToComputeAndKnowNoOtherScheme) {
  EXPECT_EQ(PrefixKeys(SchemeOf(4), "", Ids(8)).size(), 1U);
  EXPECT_EQ(PrefixKeys(SchemeOf(4), "", Ids(9)).size(), 2U);
  EXPECT_TRUE(PrefixKeys(SchemeOf(4), "", {}).empty());
  internal::v1::PrefixScheme other = SchemeOf(4);
  other.set_scheme("sha256-chain-2");
  EXPECT_TRUE(PrefixKeys(other, "", Ids(9)).empty());
  EXPECT_TRUE(PrefixKeys({}, "", Ids(9)).empty());
}

TEST(PrefixIndexTest, CountsTheLeadingBlocksThatAGroupWasSent) {
  PrefixIndex index(100);
  const auto keys = PrefixKeys(SchemeOf(4), "", Ids(21));
  ASSERT_EQ(keys.size(), 5U);
  const std::vector<std::uint64_t> groups = {1, 2, 3};
  EXPECT_THAT(index.LeadingBlocks(keys, groups), ElementsAre(0, 0, 0));
  index.Remember({keys.data(), 2}, 1);
  index.Remember({keys.data(), 4}, 2);
  EXPECT_THAT(index.LeadingBlocks(keys, groups), ElementsAre(2, 4, 0));
  // A block in the middle is worth nothing without those before it.
  index.Remember({keys.data() + 2, 3}, 3);
  EXPECT_THAT(index.LeadingBlocks(keys, groups), ElementsAre(2, 4, 0));
}

TEST(PrefixIndexTest, IsBoundedAndForgetsWhatWasLongestUnusedEndsFirst) {
  PrefixIndex index(4);
  const std::vector<std::uint64_t> groups = {1};
  const auto first = PrefixKeys(SchemeOf(4), "", Ids(9));
  const auto second = PrefixKeys(SchemeOf(4), "", Ids(9, 500));
  const auto third = PrefixKeys(SchemeOf(4), "", Ids(5, 900));
  index.Remember(first, 1);
  index.Remember(second, 1);
  index.Remember(first, 1);
  index.Remember(third, 1);
  EXPECT_EQ(index.size(), 4U);
  EXPECT_THAT(index.LeadingBlocks(first, groups), ElementsAre(2));
  EXPECT_THAT(index.LeadingBlocks(second, groups), ElementsAre(1));
  EXPECT_THAT(index.LeadingBlocks(third, groups), ElementsAre(1));
}

TEST(PrefixIndexTest, RemembersTheFourGroupsThatHadABlockLast) {
  PrefixIndex index(10);
  const auto keys = PrefixKeys(SchemeOf(4), "", Ids(5));
  for (const std::uint64_t group : {1U, 2U, 3U, 4U, 1U, 5U}) {
    index.Remember(keys, group);
  }
  const std::vector<std::uint64_t> groups = {1, 2, 3, 4, 5};
  EXPECT_THAT(index.LeadingBlocks(keys, groups), ElementsAre(1, 0, 1, 1, 1));
}

TEST(ChooseByPrefixTest, TakesTheGroupThatHasMostOfThePrompt) {
  const std::vector<GroupLoad> groups = {{.running = 0},
                                         {.running = 1, .cached_prompt_tokens = 64},
                                         {.running = 3, .cached_prompt_tokens = 128},
                                         {.running = 2, .cached_prompt_tokens = 128}};
  EXPECT_EQ(ChooseByPrefix(groups, 0), 3U);
  EXPECT_EQ(ChooseByPrefix(std::vector<GroupLoad>{{.running = 1}, {.running = 0}}, 0),
            std::nullopt);
  EXPECT_EQ(ChooseByPrefix({}, 0), std::nullopt);
}

TEST(ChooseByPrefixTest, LeavesAGroupThatIsOverloaded) {
  std::vector<GroupLoad> groups = {{.running = 2}, {.running = 8, .cached_prompt_tokens = 64}};
  EXPECT_EQ(ChooseByPrefix(groups, 0), 1U);
  groups[1].running = 9;
  EXPECT_EQ(ChooseByPrefix(groups, 0), std::nullopt);
}

TEST(CircuitBreakerTest, OpensAfterFailuresInARowAndDoublesItsPause) {
  CircuitBreaker breaker(
      {.failures = 3, .first_pause = seconds(1), .longest_pause = seconds(3), .trial = seconds(5)});
  const TimePoint start{};
  EXPECT_FALSE(breaker.OnFailure(start));
  EXPECT_FALSE(breaker.OnFailure(start));
  breaker.OnSuccess();
  EXPECT_FALSE(breaker.OnFailure(start));
  EXPECT_FALSE(breaker.OnFailure(start));
  EXPECT_TRUE(breaker.Allows(start));
  EXPECT_TRUE(breaker.OnFailure(start));
  TimePoint now = start;
  for (const seconds pause : {seconds(1), seconds(2), seconds(3), seconds(3)}) {
    EXPECT_FALSE(breaker.Allows(now + pause - milliseconds(1)));
    // Streams that began before tell nothing new.
    EXPECT_FALSE(breaker.OnFailure(now + milliseconds(500)));
    now += pause;
    EXPECT_TRUE(breaker.Allows(now));
    breaker.OnStart(now);  // one tries
    EXPECT_FALSE(breaker.Allows(now));
    EXPECT_FALSE(breaker.OnFailure(now));
  }
  now += seconds(3);
  breaker.OnStart(now);
  EXPECT_TRUE(breaker.Allows(now + seconds(5))) << "a trial without an answer is not waited for";
  breaker.OnSuccess();
  EXPECT_TRUE(breaker.Allows(now));
  EXPECT_FALSE(breaker.open());
}

TEST(CircuitBreakerTest, ATrialThatAnswersLetsOthersInAndOneMoreFailureClosesTheDoor) {
  CircuitBreaker breaker({.failures = 3, .first_pause = seconds(1), .trial = seconds(5)});
  TimePoint now{};
  for (int i = 0; i < 3; ++i) {
    breaker.OnFailure(now);
  }
  now += seconds(1);
  breaker.OnStart(now);
  EXPECT_FALSE(breaker.Allows(now));
  breaker.OnAnswer();
  EXPECT_TRUE(breaker.Allows(now));
  EXPECT_TRUE(breaker.OnFailure(now)) << "in the middle of its answer";
  EXPECT_FALSE(breaker.Allows(now + milliseconds(1999))) << "and the pause has doubled";
  now += seconds(2);
  breaker.OnStart(now);
  breaker.OnAnswer();
  breaker.OnSuccess();
  EXPECT_FALSE(breaker.OnFailure(now));
  EXPECT_FALSE(breaker.OnFailure(now));
}

TEST(CircuitBreakerTest, NeverOpensWithoutALimit) {
  CircuitBreaker breaker({.failures = 0});
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(breaker.OnFailure(TimePoint{}));
  }
  EXPECT_TRUE(breaker.Allows(TimePoint{}));
}

TEST(GroupPaceTest, EstimatesTheLeastTimeFromTheBestThatWasSeenLately) {
  GroupPace pace;
  const TimePoint now = TimePoint{} + std::chrono::hours(1);
  EXPECT_EQ(pace.LeastTime(now, 100, 100), std::nullopt);
  pace.AddPrompt(now, milliseconds(400), 100);
  pace.AddPrompt(now, milliseconds(200), 100);
  pace.AddPrompt(now, milliseconds(1), 10);  // too short to tell
  pace.AddTokens(now, milliseconds(160), 16);
  pace.AddTokens(now, milliseconds(320), 16);
  EXPECT_NEAR(ToSeconds(*pace.LeastTime(now, 1000, 101)), 1000 * 0.002 + 100 * 0.01, 1e-6);
  EXPECT_NEAR(ToSeconds(*pace.LeastTime(now, 0, 0)), 0, 1e-6);
  // A minute later nothing is known any more.
  EXPECT_EQ(pace.LeastTime(now + seconds(60), 1000, 101), std::nullopt);
}

}  // namespace
}  // namespace yangtuo::gateway
