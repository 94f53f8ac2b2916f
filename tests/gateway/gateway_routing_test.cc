// Where requests go, and which are refused because of it: a gateway between fakes.

#include <chrono>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/gateway_harness.h"

namespace yangtuo::gateway {
namespace {

using testing::FakeTokenizer;
using testing::FakeWorker;
using testing::FakeWorkerScript;
using ::testing::HasSubstr;

constexpr std::uint32_t kBlock = 4;

void TellScheme(FakeWorker& worker) {
  worker.SetStatus([](auto& status) {
    status.mutable_prefix_scheme()->set_scheme("sha256-chain-1");
    status.mutable_prefix_scheme()->set_block_size(kBlock);
    status.mutable_prefix_scheme()->set_root(std::string(32, 'r'));
  });
}

v1::GenerateRequest IdsRequest(std::uint32_t first, std::uint32_t count) {
  v1::GenerateRequest request;
  for (std::uint32_t i = 0; i < count; ++i) {
    request.mutable_token_ids()->add_ids(first + i);
  }
  return request;
}

TEST(PrefixRoutingTest, PromptsThatBeginAlikeGoToTheSameGroup) {
  FakeWorker one(Says(kText));
  FakeWorker two(Says(kText));
  TellScheme(one);
  TellScheme(two);
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(cluster.Ask(IdsRequest(10, 3 * kBlock + 1)).status.ok());
  }
  EXPECT_EQ(one.requests().size() * two.requests().size(), 0U) << "all on one of both";
  const bool first_has_it = two.requests().empty();
  // Only its beginning is alike.
  v1::GenerateRequest longer = IdsRequest(10, 2 * kBlock);
  longer.mutable_token_ids()->add_ids(77);
  ASSERT_TRUE(cluster.Ask(longer).status.ok());
  EXPECT_EQ((first_has_it ? one : two).requests().size(), 7U);
  EXPECT_THAT(cluster.Exposed(), HasSubstr("yangtuo_routed_total{by=\"prefix\"} 6"));
  EXPECT_THAT(cluster.Exposed(), HasSubstr("yangtuo_routed_total{by=\"load\"} 1"));
}

TEST(PrefixRoutingTest, AnOverloadedGroupIsLeft) {
  FakeWorkerScript hold = Says(kText);
  hold.hold_at = 1;
  FakeWorker one(hold);
  FakeWorker two(hold);
  TellScheme(one);
  TellScheme(two);
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> streams;
  for (int i = 0; i < 8; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(cluster.stub().Generate(contexts.back().get(), IdsRequest(10, 9)));
    v1::GenerateResponse response;
    ASSERT_TRUE(streams.back()->Read(&response));
    ASSERT_TRUE(streams.back()->Read(&response));  // a token: the stream is at its group
  }
  EXPECT_GT(one.requests().size(), 0U);
  EXPECT_GT(two.requests().size(), 0U);
  for (std::size_t i = 0; i < streams.size(); ++i) {
    contexts[i]->TryCancel();
    streams[i]->Finish();
  }
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(PrefixRoutingTest, IsOffWithoutRoomToRemember) {
  FakeWorker one(Says(kText));
  FakeWorker two(Says(kText));
  TellScheme(one);
  TellScheme(two);
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer},
                  [](GatewayOptions& options) { options.routing.prefix_blocks = 0; });
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(cluster.Ask(IdsRequest(10, 13)).status.ok());
  }
  EXPECT_GT(one.requests().size(), 0U);
  EXPECT_GT(two.requests().size(), 0U);
}

TEST(EjectionTest, AGroupThatBreaksItsStreamsGetsNoneForAWhile) {
  FakeWorkerScript broken = Says(kText);
  broken.fail_at = 0;
  FakeWorker bad(broken);
  FakeWorker good(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&bad, &good}, {&tokenizer}, [](GatewayOptions& options) {
    options.routing.breaker = {.failures = 3, .first_pause = std::chrono::minutes(1)};
  });
  for (int i = 0; i < 20; ++i) {
    const Answer answer = cluster.Ask(TextRequest("x"));
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_EQ(answer.texts.at(0), kText);
  }
  EXPECT_EQ(bad.requests().size(), 3U);
  const std::string gauge = "yangtuo_worker_ejected{worker=\"" + bad.address() + "\"} 1";
  EXPECT_TRUE(Eventually([&] { return cluster.Exposed().find(gauge) != std::string::npos; }));
}

TEST(EjectionTest, AGroupThatBreaksItsStreamsAfterTheFirstTokenIsNoBetter) {
  FakeWorkerScript broken = Says(kText);
  broken.fail_after = 1;
  broken.failure = {grpc::StatusCode::INTERNAL, "bug"};  // not tried elsewhere
  FakeWorker bad(broken);
  FakeWorker good(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&bad, &good}, {&tokenizer}, [](GatewayOptions& options) {
    options.routing.breaker = {.failures = 3, .first_pause = std::chrono::minutes(1)};
  });
  int failed = 0;
  for (int i = 0; i < 30; ++i) {
    failed += cluster.Ask(TextRequest("x")).status.ok() ? 0 : 1;
  }
  EXPECT_EQ(failed, 3);
  EXPECT_EQ(bad.requests().size(), 3U);
}

TEST(EjectionTest, AGroupThatRefusesEmbeddingsIsFoundToo) {
  FakeWorkerScript broken = Says(kText);
  broken.embed = [](const auto&) { return grpc::Status(grpc::StatusCode::INTERNAL, "bug"); };
  FakeWorker bad(broken);
  FakeWorker good(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&bad, &good}, {&tokenizer}, [](GatewayOptions& options) {
    options.routing.breaker = {.failures = 3, .first_pause = std::chrono::minutes(1)};
  });
  v1::EmbedRequest request;
  request.add_texts("x");
  int failed = 0;
  for (int i = 0; i < 30; ++i) {
    v1::EmbedResponse response;
    grpc::ClientContext context;
    failed += cluster.stub().Embed(&context, request, &response).ok() ? 0 : 1;
  }
  EXPECT_EQ(failed, 3);
}

TEST(ExchangedModelTest, APromptGoesOnlyToGroupsThatHaveItsTokenizer) {
  FakeWorker one(Says(kText));
  FakeWorker two(Says("never asked"));
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  const auto ready_groups_are = [&](const std::string& number) {
    return Eventually([&] {
      return cluster.Exposed().find("yangtuo_workers_ready{model=\"fake-model\"} " + number) !=
             std::string::npos;
    });
  };
  two.SetStatus([](auto& status) { status.set_ready(false); });
  ASSERT_TRUE(ready_groups_are("1"));
  two.SetStatus([](auto& status) {
    status.set_tokenizer_digest("another");
    status.set_ready(true);
  });
  ASSERT_TRUE(ready_groups_are("2"));
  for (int i = 0; i < 10; ++i) {
    // Which of them describes the model is the gateway's choice; there is a tokenizer for one only.
    const Answer answer = cluster.Ask(TextRequest("x"));
    EXPECT_TRUE(answer.status.ok() ? answer.texts.at(0) == kText
                                   : ReasonOf(answer.status) == "NO_TOKENIZER")
        << answer.status;
  }
  EXPECT_TRUE(two.requests().empty());
}

TEST(EjectionTest, AGroupComesBackWhenOneStreamSucceeds) {
  FakeWorkerScript broken = Says(kText);
  broken.fail_at = 0;
  FakeWorker bad(broken);
  FakeWorker good(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&bad, &good}, {&tokenizer}, [](GatewayOptions& options) {
    options.routing.breaker = {.failures = 1, .first_pause = std::chrono::milliseconds(100)};
  });
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
    return !bad.requests().empty();
  }));
  bad.SetScript(Says(kText));
  const std::size_t before = bad.requests().size();
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
    return bad.requests().size() > before + 3;
  }));
}

TEST(EjectionTest, NeverTakesMoreThanTheStatedShare) {
  FakeWorkerScript broken = Says(kText);
  broken.fail_at = 0;
  FakeWorker one(broken);
  FakeWorker two(broken);
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer}, [](GatewayOptions& options) {
    options.routing.breaker = {.failures = 1, .first_pause = std::chrono::minutes(1)};
    options.resume.max_wait = {};
  });
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(cluster.Ask(TextRequest("x")).status.code(), absl::StatusCode::kUnavailable);
  }
  // Both fail, and one of them is still asked: if it is well again, it is found out at once.
  const std::size_t asked = one.requests().size() + two.requests().size();
  one.SetScript(Says(kText));
  two.SetScript(Says(kText));
  EXPECT_GT(asked, 10U);
  EXPECT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
}

TEST(QueueLimitTest, ARequestWithoutATokenIsRefusedWithAHint) {
  FakeWorkerScript hold = Says(kText);
  hold.hold_at = 0;
  FakeWorker worker(hold);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer}, [](GatewayOptions& options) {
    options.queue.max_wait = std::chrono::milliseconds(150);
  });
  const Answer answer = cluster.Ask(TextRequest("x"));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(answer.status), "QUEUE_TIMEOUT");
  EXPECT_TRUE(Eventually([&] { return cluster.Idle() && worker.running() == 0; }));
  EXPECT_THAT(cluster.Exposed(), HasSubstr("yangtuo_rejected_total{reason=\"QUEUE_TIMEOUT\"} 1"));
  // One that has begun is not in a queue.
  worker.SetScript(Slowly(Says(kText), std::chrono::milliseconds(10)));
  EXPECT_EQ(cluster.Ask(TextRequest("x")).texts[0], kText);
}

TEST(DeadlineTest, AnAnswerThatCannotBeInTimeIsRefusedAtOnce) {
  FakeWorker worker(Slowly(Says(std::string(60, 'x')), std::chrono::milliseconds(20)));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = TextRequest("x");
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_stop()->set_max_new_tokens(450);
  // Nothing is known of the worker's pace yet, so it is tried.
  EXPECT_TRUE(cluster.Ask(request).status.ok());
  // At 20 ms a token, 450 take 9 s.
  const std::size_t before = worker.requests().size();
  const TimePoint start = std::chrono::steady_clock::now();
  const Answer refused = cluster.Ask(request, {}, std::chrono::seconds(2));
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ReasonOf(refused.status), "DEADLINE_TOO_SOON");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(1900));
  EXPECT_EQ(worker.requests().size(), before);
  EXPECT_THAT(cluster.Exposed(),
              HasSubstr("yangtuo_rejected_total{reason=\"DEADLINE_TOO_SOON\"} 1"));
  // A longer deadline is let in, and an answer that may end early.
  EXPECT_TRUE(cluster.Ask(request).status.ok());
  request.mutable_stop()->set_ignore_eos(false);
  EXPECT_TRUE(cluster.Ask(request, {}, std::chrono::seconds(8)).status.ok());
}

TEST(UsageTest, TellsHowMuchOfThePromptWasComputedBefore) {
  FakeWorkerScript script = Says(kText);
  script.cached_prompt_tokens = 32;
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  v1::GenerateRequest request = IdsRequest(10, 40);
  EXPECT_EQ(cluster.Ask(request).finished().usage().cached_prompt_tokens(), 32U);
  request.set_n(2);
  EXPECT_EQ(cluster.Ask(request).finished().usage().cached_prompt_tokens(), 32U);
  script.cached_prompt_tokens = 0;
  worker.SetScript(script);
  EXPECT_EQ(cluster.Ask(request).finished().usage().cached_prompt_tokens(), 0U);
}

}  // namespace
}  // namespace yangtuo::gateway
