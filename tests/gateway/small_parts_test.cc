#include <atomic>
#include <mutex>
#include <vector>

#include "gateway/admission.h"
#include "gateway/choice_text.h"
#include "gateway/peer_discovery.h"
#include "gateway/response_buffer.h"
#include "gateway/timers.h"
#include "gateway/utf8.h"
#include "gateway/worker_choice.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AdmissionTest, RefusesBeyondTheRequestLimitAndRecoversWhenAPermitDies) {
  Admission admission({.max_requests = 1});
  {
    const auto first = admission.Admit();
    ASSERT_TRUE(first.ok());
    const auto second = admission.Admit();
    EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_EQ(ReasonOf(second.status()), "QUEUE_FULL");
    EXPECT_TRUE(second.status().GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
  }
  EXPECT_EQ(admission.requests(), 0U);
  EXPECT_TRUE(admission.Admit().ok());
}

TEST(AdmissionTest, RefusesBeyondTheTokenLimitAndGivesTokensBack) {
  Admission admission({.max_tokens = 100});
  auto first = admission.Admit();
  auto second = admission.Admit();
  ASSERT_TRUE(first->AddTokens(80).ok());
  EXPECT_EQ(ReasonOf(second->AddTokens(30)), "TOKENS_FULL");
  EXPECT_TRUE(second->AddTokens(20).ok());
  { const AdmissionPermit dropped = *std::move(first); }
  EXPECT_EQ(admission.tokens(), 20U);
}

TEST(AdmissionTest, LetsARequestLargerThanTheLimitInWhenNothingElseHoldsTokens) {
  Admission admission({.max_tokens = 100});
  auto large = admission.Admit();
  EXPECT_TRUE(large->AddTokens(1000).ok());
  auto small = admission.Admit();
  EXPECT_FALSE(small->AddTokens(1).ok());
}

TEST(Utf8Test, ReplacesEveryIllFormedPartOnce) {
  EXPECT_EQ(ReplaceInvalidUtf8("白 ok"), "白 ok");
  EXPECT_EQ(ReplaceInvalidUtf8("\xE7\x99"), "\xEF\xBF\xBD");  // cut character
  EXPECT_EQ(ReplaceInvalidUtf8("\xFF\x41"),
            "\xEF\xBF\xBD"
            "A");                                                         // no first byte
  EXPECT_EQ(ReplaceInvalidUtf8("\xC0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD");  // overlong
  EXPECT_FALSE(IsUtf8("\xED\xA0\x80"));                                   // a surrogate
  EXPECT_TRUE(IsUtf8("\xF4\x8F\xBF\xBF"));
  EXPECT_FALSE(IsUtf8("\xF4\x90\x80\x80"));
}

TEST(ChooseGroupTest, TakesTheLeastLoadedGroup) {
  const std::vector<GroupLoad> groups{{.running = 4}, {.running = 1, .waiting = 1}, {.running = 3}};
  EXPECT_EQ(ChooseGroup(groups, 0), 1U);
  EXPECT_EQ(ChooseGroup({}, 0), std::nullopt);
}

TEST(ChooseGroupTest, CountsWhatWasStartedSinceTheReport) {
  const std::vector<GroupLoad> groups{{.running = 0, .started_since = 2, .own_open = 2},
                                      {.running = 1}};
  EXPECT_EQ(ChooseGroup(groups, 0), 1U);
}

TEST(ChooseGroupTest, AvoidsLongPromptsAndScarceMemory) {
  EXPECT_EQ(
      ChooseGroup(
          std::vector<GroupLoad>{{.running = 1, .pending_prompt_tokens = 4000}, {.running = 3}}, 0),
      1U);
  EXPECT_EQ(
      ChooseGroup(
          std::vector<GroupLoad>{{.running = 3, .kv_blocks_total = 100},
                                 {.running = 4, .kv_blocks_total = 100, .kv_blocks_free = 50}},
          0),
      1U);
}

TEST(ChooseGroupTest, LetsEqualGroupsTakeTurns) {
  const std::vector<GroupLoad> groups(3);
  EXPECT_EQ(ChooseGroup(groups, 0), 0U);
  EXPECT_EQ(ChooseGroup(groups, 1), 1U);
  EXPECT_EQ(ChooseGroup(groups, 5), 2U);
}

TEST(ChoiceTextTest, KeepsIdsUntilTheirTextComesAndNeverTellsAnEmptyDelta) {
  ChoiceText text({.choice = 2});
  text.AddTokens(std::vector<std::uint32_t>{10, 11, 12}, nullptr);
  EXPECT_FALSE(text.AddText("", 1).has_value());
  const auto delta = text.AddText("白", 2);
  ASSERT_TRUE(delta.has_value());
  EXPECT_EQ(delta->choice(), 2U);
  EXPECT_EQ(delta->text(), "白");
  EXPECT_THAT(delta->token_ids(), ElementsAre(10, 11));
  EXPECT_FALSE(text.Finish().has_value());
}

TEST(ChoiceTextTest, TellsLastIdsWithoutTextAtTheEnd) {
  ChoiceText text({});
  text.AddTokens(std::vector<std::uint32_t>{10, 2, 1}, nullptr);
  EXPECT_THAT(text.AddText("a", 1)->token_ids(), ElementsAre(10));
  EXPECT_FALSE(text.AddText("", 3).has_value());
  const auto last = text.Finish();
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->text(), "");
  EXPECT_THAT(last->token_ids(), ElementsAre(2, 1));
}

TEST(ChoiceTextTest, TellsEveryTokenAtOnceWhenLogprobsAreAskedFor) {
  const auto pieces = std::make_shared<const std::vector<std::string>>(
      std::vector<std::string>{"zero", "one", "two"});
  ChoiceText text({.pieces = pieces});
  google::protobuf::RepeatedPtrField<v1::PositionLogprobs> logprobs;
  logprobs.Add()->mutable_chosen()->set_token_id(1);
  logprobs.Mutable(0)->add_top()->set_token_id(2);
  text.AddTokens(std::vector<std::uint32_t>{1}, &logprobs);
  const auto delta = text.AddText("", 1);
  ASSERT_TRUE(delta.has_value());
  EXPECT_THAT(delta->token_ids(), ElementsAre(1));
  ASSERT_EQ(delta->logprobs_size(), 1);
  EXPECT_EQ(delta->logprobs(0).chosen().token(), "one");
  EXPECT_EQ(delta->logprobs(0).top(0).token(), "two");
}

TEST(ChoiceTextTest, ReplacesBytesThatAreNoText) {
  ChoiceText text({});
  text.AddTokens(std::vector<std::uint32_t>{1}, nullptr);
  EXPECT_EQ(text.AddText("a\xFF", 1)->text(), "a\xEF\xBF\xBD");
}

v1::GenerateResponse DeltaOf(std::uint32_t choice, const std::string& text) {
  v1::GenerateResponse response;
  response.mutable_delta()->set_choice(choice);
  response.mutable_delta()->set_text(text);
  response.mutable_delta()->add_token_ids(choice);
  return response;
}

TEST(ResponseBufferTest, MergesWaitingDeltasOfAChoiceAndKeepsTheFrame) {
  ResponseBuffer buffer;
  v1::GenerateResponse started;
  started.mutable_started()->set_seed(1);
  buffer.Add(started);
  buffer.Add(DeltaOf(0, "a"));
  buffer.Add(DeltaOf(1, "x"));
  buffer.Add(DeltaOf(0, "b"));
  v1::GenerateResponse finished;
  finished.mutable_finished();
  buffer.Add(finished);
  EXPECT_TRUE(buffer.TakeFirst().has_started());
  const v1::GenerateResponse first = buffer.TakeFirst();
  EXPECT_EQ(first.delta().text(), "ab");
  EXPECT_THAT(first.delta().token_ids(), ElementsAre(0, 0));
  EXPECT_EQ(buffer.TakeFirst().delta().text(), "x");
  EXPECT_TRUE(buffer.TakeFirst().has_finished());
  EXPECT_EQ(buffer.bytes(), 0U);
}

TEST(TimersTest, RunInOrderOfTheirTimesAndNotAfterStop) {
  std::mutex mutex;
  std::vector<int> order;
  std::atomic<bool> done = false;
  Timers timers;
  const auto note = [&](int n) {
    const std::lock_guard<std::mutex> lock(mutex);
    order.push_back(n);
  };
  timers.After(std::chrono::milliseconds(30), [&] {
    note(2);
    done = true;
  });
  timers.After(std::chrono::milliseconds(1), [&] { note(1); });
  timers.After(std::chrono::hours(1), [&] { note(3); });
  while (!done) {
    std::this_thread::yield();
  }
  timers.Stop();
  timers.After({}, [&] { note(4); });
  EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST(PeerTargetTest, ReadsAddressesAndNames) {
  EXPECT_FALSE(ParsePeerTarget("127.0.0.1:1")->resolve);
  EXPECT_TRUE(ParsePeerTarget("dns:///workers:50053")->resolve);
  EXPECT_EQ(ParsePeerTarget("dns:///workers:50053")->host, "workers");
  EXPECT_EQ(ParsePeerTarget("[::1]:80")->host, "::1");
  for (const char* wrong : {"", "host", "host:", ":1", "host:port", "http://host:1", "a/b:1"}) {
    EXPECT_THAT(std::string(ParsePeerTarget(wrong).status().message()), HasSubstr("host:port"))
        << wrong;
  }
}

TEST(PeerDiscoveryTest, FindsAllAddressesOfANameAndKeepsThemWhenItCannotBeResolved) {
  std::mutex mutex;
  std::vector<std::vector<std::string>> updates;
  std::atomic<int> round = 0;
  const PeerDiscovery discovery(
      {.targets = {{.host = "workers", .port = "7", .resolve = true}},
       .period = std::chrono::milliseconds(1),
       .resolver = [&](const std::string&,
                       const std::string& port) -> absl::StatusOr<std::vector<std::string>> {
         switch (round++) {
           case 0:
             return std::vector<std::string>{"10.0.0.2:" + port, "10.0.0.1:" + port};
           case 1:
             return absl::UnavailableError("no name server");
           default:
             return std::vector<std::string>{"10.0.0.1:" + port};
         }
       }},
      [&](const std::vector<PeerAddress>& peers) {
        const std::lock_guard<std::mutex> lock(mutex);
        updates.emplace_back();
        for (const PeerAddress& peer : peers) {
          EXPECT_EQ(peer.dns_name, "workers");
          updates.back().push_back(peer.target);
        }
      });
  while (round < 4) {
    std::this_thread::yield();
  }
  const std::lock_guard<std::mutex> lock(mutex);
  EXPECT_THAT(updates,
              ElementsAre(ElementsAre("10.0.0.1:7", "10.0.0.2:7"), ElementsAre("10.0.0.1:7")));
}

TEST(PeerDiscoveryTest, ResolvesALoopbackNameWithTheSystem) {
  const auto addresses = ResolveWithSystem("127.0.0.1", "80");
  ASSERT_TRUE(addresses.ok()) << addresses.status();
  EXPECT_THAT(*addresses, ElementsAre("127.0.0.1:80"));
}

}  // namespace
}  // namespace yangtuo::gateway
