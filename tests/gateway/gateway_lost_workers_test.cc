// Workers and groups that are lost, hang, drain or lack a shard: where their streams go on.

#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/gateway_harness.h"

namespace yangtuo::gateway {
namespace {

using testing::FakeTokenizer;
using testing::FakeWorker;
using testing::FakeWorkerScript;
using ::testing::HasSubstr;

FakeWorkerScript FailAt(FakeWorkerScript script, std::size_t token, grpc::Status failure) {
  script.fail_at = token;
  script.failure = std::move(failure);
  return script;
}

TEST(LostWorkerTest, BeforeTheFirstTokenTheRequestGoesToAnotherGroup) {
  FakeWorker broken(FailAt(Says(kText), 0, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  FakeWorker good(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&broken, &good}, {&tokenizer});
  for (int i = 0; i < 4; ++i) {
    const Answer answer = cluster.Ask(TextRequest("x"));
    ASSERT_TRUE(answer.status.ok()) << answer.status;
    EXPECT_EQ(answer.texts.at(0), kText);
  }
  EXPECT_FALSE(broken.requests().empty());
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostWorkerTest, AFullGroupIsPassedOverForAnother) {
  FakeWorker full(FailAt(Says(kText), 0, {grpc::StatusCode::RESOURCE_EXHAUSTED, "queue full"}));
  FakeTokenizer tokenizer;
  {
    FakeWorker good(Says(kText));
    Cluster cluster({&full, &good}, {&tokenizer});
    for (int i = 0; i < 4; ++i) {
      EXPECT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
    }
  }
  Cluster alone({&full}, {&tokenizer});
  const Answer answer = alone.Ask(TextRequest("x"));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("queue full"));
}

TEST(LostWorkerTest, InTheMiddleTheAnswerGoesOnElsewhereWithoutLossOrRepetition) {
  FakeWorker one(Slowly(Says(kText)));
  FakeWorker two(Slowly(Says(kText)));
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  bool killed = false;
  v1::GenerateRequest request = TextRequest("x");
  request.mutable_sampling()->set_logprobs(0);
  const Answer answer = cluster.Ask(request, [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !killed) {
      killed = true;
      (one.running() > 0 ? one : two).Kill();
    }
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  EXPECT_EQ(answer.ids.at(0), FakeTokenizer::Ids(kText));
  const internal::v1::GenerateRequest second =
      one.requests().at(0).resumed_ids().empty() ? two.requests().at(0) : one.requests().at(0);
  EXPECT_GT(second.resumed_ids_size(), 0);
  EXPECT_EQ(second.numerics_id(), "fake-numerics");
  EXPECT_EQ(second.sampling().seed(), answer.started().seed());
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostWorkerTest, AnAnswerThatHasBegunWaitsForRoomInAFullGroup) {
  FakeWorker lost(FailAt(Says(kText), 2, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  FakeWorker full(FailAt(Says(kText), 2, {grpc::StatusCode::RESOURCE_EXHAUSTED, "queue full"}));
  full.SetStatus([](auto& status) { status.set_ready(false); });
  FakeTokenizer tokenizer;
  Cluster cluster({&lost, &full}, {&tokenizer});
  bool begun = false;
  std::thread later;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !begun) {
      begun = true;
      lost.SetStatus([](auto& status) { status.set_ready(false); });
      full.SetStatus([](auto& status) { status.set_ready(true); });
      later = std::thread([&] {
        EXPECT_TRUE(Eventually([&] { return full.requests().size() >= 8; }));
        full.SetScript(Says(kText));
      });
    }
  });
  later.join();
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
}

TEST(LostWorkerTest, AnAnswerThatHasBegunAndFindsNoRoomEndsAfterTheWait) {
  FakeWorker lost(FailAt(Says(kText), 2, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  FakeWorker full(FailAt(Says(kText), 2, {grpc::StatusCode::RESOURCE_EXHAUSTED, "queue full"}));
  FakeTokenizer tokenizer;
  Cluster cluster({&lost, &full}, {&tokenizer}, [](GatewayOptions& options) {
    options.resume.max_wait = std::chrono::milliseconds(300);
  });
  const Answer answer = cluster.Ask(TextRequest("x"));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kUnavailable) << answer.status;
  EXPECT_EQ(answer.ids.at(0).size(), 2U) << "what there was has been told";
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostWorkerTest, AnAnswerThatGoesOnSurvivesAnyNumberOfLosses) {
  FakeWorkerScript breaks = Says(kText);
  breaks.fail_after = 3;
  FakeWorker one(breaks);
  FakeWorker two(breaks);
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  const Answer answer = cluster.Ask(TextRequest("x"));
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  EXPECT_GT(one.requests().size() + two.requests().size(), 15U);
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostWorkerTest, ARequestThatBreaksEveryWorkerEndsAfterSomeOfThem) {
  FakeWorker one(FailAt(Says(kText), 4, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  FakeWorker two(FailAt(Says(kText), 4, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
  const Answer answer = cluster.Ask(TextRequest("x"));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(answer.texts.at(0), "the ");
  EXPECT_LE(one.requests().size() + two.requests().size(), 6U);
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostWorkerTest, AGroupWithOtherNumbersDoesNotContinueAnAnswer) {
  FakeWorker one(FailAt(Says(kText), 5, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  FakeWorker two(FailAt(Says(kText), 5, {grpc::StatusCode::UNAVAILABLE, "gone"}));
  two.SetStatus([](auto& status) { status.set_numerics_id("other"); });
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer},
                  [](GatewayOptions& options) { options.resume.max_wait = {}; });
  const Answer answer = cluster.Ask(TextRequest("x"));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kUnavailable);
  // All attempts went to the group that began.
  EXPECT_TRUE(one.requests().empty() || two.requests().empty());
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostWorkerTest, WithoutAnotherGroupTheAnswerIsUnavailableAndNewOnesNameTheModel) {
  FakeWorker worker(HoldAt(Says(kText), 5));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer}, [](GatewayOptions& options) {
    options.resume.max_wait = std::chrono::milliseconds(200);
  });
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta()) {
      worker.Kill();
    }
  });
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(answer.texts.at(0).substr(0, 3), "the");
  EXPECT_TRUE(Eventually([&] { return !cluster.gateway().ready(); }));
  const Answer next = cluster.Ask(TextRequest("x"));
  EXPECT_EQ(next.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(next.status), "NO_READY_GROUP");
  EXPECT_THAT(std::string(next.status.message()), HasSubstr("fake-model"));
  worker.SetScript(Says(kText));
  worker.Restart();
  EXPECT_TRUE(Eventually([&] { return cluster.gateway().ready(); }));
  EXPECT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostWorkerTest, AHungWorkerIsFoundWithinThreeSecondsAndItsAnswersGoOnElsewhere) {
  FakeWorker hung(HoldAt(Says(kText), 5));
  FakeTokenizer tokenizer;
  FakeWorker good(Says(kText));
  good.SetStatus([](auto& status) { status.set_ready(false); });
  Cluster cluster({&hung, &good}, {&tokenizer});
  std::optional<TimePoint> since;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !since.has_value()) {
      since = std::chrono::steady_clock::now();
      hung.SetSilent(true);
      good.SetStatus([](auto& status) { status.set_ready(true); });
    }
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  EXPECT_LT(std::chrono::steady_clock::now() - *since, std::chrono::milliseconds(4000));
}

TEST(LostWorkerTest, ADrainingWorkerFinishesButGetsNothingNew) {
  FakeWorker draining(Says(kText));
  FakeWorker good(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&draining, &good}, {&tokenizer});
  draining.SetStatus([](auto& status) { status.set_draining(true); });
  EXPECT_TRUE(Eventually([&] {
    return cluster.Exposed().find("yangtuo_workers_ready{model=\"fake-model\"} 1") !=
           std::string::npos;
  }));
  for (int i = 0; i < 6; ++i) {
    EXPECT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
  }
  EXPECT_TRUE(draining.requests().empty());
}

TEST(LostWorkerTest, StreamsOfAGroupThatStaysIncompleteGoOnAtAnother) {
  FakeWorker one(HoldAt(Says(kText), 10));
  FakeWorker two(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer}, [](GatewayOptions& options) {
    options.routing.breaker = {.failures = 1, .first_pause = std::chrono::minutes(1)};
  });
  const auto set_ready = [](FakeWorker& worker, bool ready) {
    worker.SetStatus([ready](auto& status) { status.set_ready(ready); });
  };
  const auto ready_groups = [&](const char* number) {
    return cluster.Exposed().find("yangtuo_workers_ready{model=\"fake-model\"} " +
                                  std::string(number)) != std::string::npos;
  };
  set_ready(two, false);
  ASSERT_TRUE(Eventually([&] { return ready_groups("1"); }));
  bool lost = false;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !lost) {
      lost = true;
      set_ready(one, false);
      set_ready(two, true);
    }
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  ASSERT_EQ(two.requests().size(), 1U);
  EXPECT_EQ(two.requests().front().resumed_ids_size(), 10);
  // It was the gateway that ended the stream: nothing speaks against the group once it is complete.
  set_ready(one, true);
  EXPECT_TRUE(Eventually([&] { return ready_groups("2"); }));
  EXPECT_THAT(cluster.Exposed(),
              HasSubstr("yangtuo_worker_ejected{worker=\"" + one.address() + "\"} 0"));
  EXPECT_TRUE(Eventually([&] { return one.running() == 0 && cluster.Idle(); }));
}

TEST(LostWorkerTest, StreamsOfTheOnlyGroupWaitUntilItIsCompleteAgain) {
  FakeWorkerScript script = Says(kText);
  script.interval = std::chrono::milliseconds(40);  // 2.4 s, more than an incomplete group gets
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  bool lost = false;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !lost) {
      lost = true;
      worker.SetStatus([](auto& status) { status.set_ready(false); });
    }
  });
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  EXPECT_EQ(worker.requests().size(), 1U);
}

}  // namespace
}  // namespace yangtuo::gateway
