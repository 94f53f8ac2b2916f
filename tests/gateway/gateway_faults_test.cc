#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
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

constexpr char kText[] = "the quick brown fox jumps over the lazy dog, again and again";

FakeWorkerScript Slowly(FakeWorkerScript script) {
  script.interval = std::chrono::milliseconds(5);
  return script;
}

FakeWorkerScript HoldAt(FakeWorkerScript script, std::size_t token) {
  script.hold_at = token;
  return script;
}

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

TEST(DiscoveryTest, WorkersThatAppearAreUsedAndWorkersThatLeaveFinishTheirStreams) {
  auto one = std::make_unique<FakeWorker>(Slowly(Says(kText)));
  auto two = std::make_unique<FakeWorker>(Says(kText));
  FakeTokenizer tokenizer;
  std::mutex mutex;
  std::vector<std::string> addresses{one->address()};
  Cluster cluster({one.get()}, {&tokenizer}, [&](GatewayOptions& options) {
    options.workers = {"dns:///workers:1"};
    options.resolve_period = std::chrono::milliseconds(10);
    options.resolver = [&](const std::string&, const std::string&) {
      const std::lock_guard<std::mutex> lock(mutex);
      return addresses;
    };
  });
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse&) {
    const std::lock_guard<std::mutex> lock(mutex);
    addresses = {two->address()};
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  EXPECT_EQ(one->requests().size(), 1U);
  EXPECT_TRUE(Eventually(
      [&] { return cluster.Ask(TextRequest("x")).status.ok() && !two->requests().empty(); }));
}

TEST(DiscoveryTest, MetricsForgetAWorkerThatLeftAndMissItsModel) {
  FakeWorker worker(Says(kText));
  FakeTokenizer tokenizer;
  std::mutex mutex;
  std::vector<std::string> addresses{worker.address()};
  Cluster cluster({&worker}, {&tokenizer}, [&](GatewayOptions& options) {
    options.workers = {"dns:///workers:1"};
    options.resolve_period = std::chrono::milliseconds(10);
    options.resolver = [&](const std::string&, const std::string&) {
      const std::lock_guard<std::mutex> lock(mutex);
      return addresses;
    };
  });
  const auto exposes = [&](const std::string& text) {
    return cluster.Exposed().find(text) != std::string::npos;
  };
  EXPECT_TRUE(exposes("yangtuo_workers_ready{model=\"fake-model\"} 1"));
  {
    const std::lock_guard<std::mutex> lock(mutex);
    addresses.clear();
  }
  EXPECT_TRUE(Eventually([&] { return !exposes("yangtuo_worker_up{"); }));
  EXPECT_TRUE(exposes("yangtuo_workers_ready{model=\"fake-model\"} 0"));
}

TEST(LimitsTest, AFullQueueIsRefusedAtOnceWithAHint) {
  FakeWorker worker(HoldAt(Says(kText), 2));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer},
                  [](GatewayOptions& options) { options.admission.max_requests = 1; });
  grpc::ClientContext held;
  const auto stream = cluster.stub().Generate(&held, TextRequest("x"));
  v1::GenerateResponse response;
  ASSERT_TRUE(stream->Read(&response));
  const Answer refused = cluster.Ask(TextRequest("x"));
  EXPECT_EQ(refused.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonOf(refused.status), "QUEUE_FULL");
  EXPECT_TRUE(refused.status.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
  held.TryCancel();
  stream->Finish();
  EXPECT_TRUE(Eventually([&] { return cluster.Idle() && worker.running() == 0; }));
  EXPECT_THAT(cluster.Exposed(), HasSubstr("yangtuo_rejected_total{reason=\"QUEUE_FULL\"} 1"));
}

TEST(LimitsTest, TokensInFlightAreBounded) {
  FakeWorker worker(HoldAt(Says(kText), 2));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer},
                  [](GatewayOptions& options) { options.admission.max_tokens = 600; });
  grpc::ClientContext held;
  const auto stream = cluster.stub().Generate(&held, TextRequest("x"));
  v1::GenerateResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(ReasonOf(cluster.Ask(TextRequest("x")).status), "TOKENS_FULL");
  held.TryCancel();
  stream->Finish();
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

// A leader keeps its streams while a shard of its group is away. The group may come back, but who
// has another one need not wait for that.
TEST(LostWorkerTest, StreamsOfAGroupThatStaysIncompleteGoOnAtAnother) {
  FakeWorker one(HoldAt(Says(kText), 10));
  FakeWorker two(Says(kText));
  FakeTokenizer tokenizer;
  Cluster cluster({&one, &two}, {&tokenizer});
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

TEST(CancelTest, AClientThatVanishesFreesEverything) {
  FakeWorker worker(HoldAt(Says(kText), 2));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  {
    grpc::ClientContext context;
    v1::GenerateRequest request = TextRequest("x");
    request.set_n(4);
    const auto stream = cluster.stub().Generate(&context, request);
    v1::GenerateResponse response;
    ASSERT_TRUE(stream->Read(&response));
    ASSERT_TRUE(Eventually([&] { return worker.running() == 4; }));
    context.TryCancel();
    stream->Finish();
  }
  EXPECT_TRUE(
      Eventually([&] { return worker.running() == 0 && cluster.Idle(); }, std::chrono::seconds(2)));
  EXPECT_THAT(cluster.Exposed(), HasSubstr("code=\"CANCELLED\",method=\"Generate\"} 1"));
}

TEST(CancelTest, ADeadlineReachesTheWorker) {
  FakeWorker worker(HoldAt(Says(kText), 2));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  const Answer answer = cluster.Ask(TextRequest("x"), {}, std::chrono::milliseconds(300));
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(
      Eventually([&] { return worker.running() == 0 && cluster.Idle(); }, std::chrono::seconds(2)));
}

TEST(CancelTest, AClientWithoutADeadlineGetsTheDefaultOne) {
  FakeWorker worker(HoldAt(Says(kText), 2));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer}, [](GatewayOptions& options) {
    options.front_end.default_deadline = std::chrono::milliseconds(300);
  });
  grpc::ClientContext context;
  const auto stream = cluster.stub().Generate(&context, TextRequest("x"));
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
  }
  const absl::Status status = FromGrpc(stream->Finish());
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded) << status;
  EXPECT_TRUE(Eventually([&] { return worker.running() == 0 && cluster.Idle(); }));
}

TEST(CancelTest, AClientThatDoesNotReadIsRefusedMoreOnceItsBufferIsFull) {
  FakeWorkerScript script;
  script.answer = [](const auto&) { return FakeTokenizer::Ids(std::string(400'000, 'a')); };
  FakeWorker worker(script);
  worker.SetStatus([](auto& status) { status.set_context_tokens(500'000); });
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer},
                  [](GatewayOptions& options) { options.front_end.client_buffer_bytes = 1000; });
  grpc::ClientContext context;
  const auto stream = cluster.stub().Generate(&context, TextRequest("x"));
  // Everything is given back while the client still does not read.
  EXPECT_TRUE(Eventually([&] { return !worker.requests().empty() && cluster.Idle(); }));
  v1::GenerateResponse response;
  while (stream->Read(&response)) {
  }
  const absl::Status status = FromGrpc(stream->Finish());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(ReasonOf(status), "CLIENT_TOO_SLOW");
}

TEST(CancelTest, AnAnswerWhoseEndNobodyReadsIsLetGo) {
  FakeWorkerScript script;
  script.answer = [](const auto&) { return FakeTokenizer::Ids(std::string(4'000, 'a')); };
  FakeWorker worker(script);
  worker.SetStatus([](auto& status) { status.set_context_tokens(5'000); });
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer}, [](GatewayOptions& options) {
    options.front_end.client_buffer_bytes = 64U << 20U;
  });
  grpc::ClientContext context;
  v1::GenerateRequest request = TextRequest("x");
  request.mutable_sampling()->set_logprobs(20);  // a megabyte
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);  // what comes unread stays at 64 KiB
  const auto stub = v1::GenerationService::NewStub(
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(cluster.gateway().port()),
                                grpc::InsecureChannelCredentials(), arguments));
  const auto stream = stub->Generate(&context, request);
  EXPECT_TRUE(Eventually([&] {
    return cluster.Exposed().find("yangtuo_requests_total{code=\"OK\",method=\"Generate\"} 1") !=
           std::string::npos;
  }));
  std::this_thread::sleep_for(std::chrono::seconds(11));  // the writer waits for 10
  v1::GenerateResponse response;
  int read = 0;
  while (stream->Read(&response)) {
    read += response.delta().token_ids_size();
  }
  EXPECT_LT(read, 4'000);
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(DrainTest, RunningStreamsEndAndNothingNewBegins) {
  FakeWorker worker(Slowly(Says(kText)));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  std::thread drain;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !drain.joinable()) {
      drain = std::thread([&] { cluster.gateway().Drain(std::chrono::seconds(10)); });
    }
  });
  drain.join();
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  EXPECT_EQ(cluster.Ask(TextRequest("x")).status.code(), absl::StatusCode::kUnavailable);
}

TEST(DrainTest, ClientsThatGoOnAskingAreRefusedAndDoNotProlongIt) {
  FakeWorker worker(Slowly(Says(kText)));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  std::atomic<bool> stop = false;
  std::atomic<int> broken = 0;
  std::atomic<int> refused = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      while (!stop) {
        const Answer answer = cluster.Ask(TextRequest("x"));
        refused += ReasonOf(answer.status) == "DRAINING" ? 1 : 0;
        broken += !answer.status.ok() && !answer.texts.empty() ? 1 : 0;
      }
    });
  }
  EXPECT_TRUE(Eventually([&] { return worker.requests().size() > 4; }));
  const auto begin = std::chrono::steady_clock::now();
  cluster.gateway().Drain(std::chrono::seconds(20));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
  stop = true;
  for (std::thread& client : clients) {
    client.join();
  }
  EXPECT_EQ(broken, 0);
  EXPECT_GT(refused, 0);
  EXPECT_FALSE(cluster.gateway().ready());
}

TEST(LoadTest, ManyStreamsShareDecodeMessagesAndLoseNothing) {
  FakeWorkerScript script = Says(kText);
  script.interval = std::chrono::milliseconds(2);
  FakeWorker worker(script);
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  std::vector<std::thread> clients;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([&] {
      v1::GenerateRequest request = TextRequest("x");
      request.set_n(8);
      const Answer answer = cluster.Ask(request);
      for (std::uint32_t choice = 0; choice < 8; ++choice) {
        good += answer.status.ok() && answer.texts.at(choice) == kText &&
                        answer.ids.at(choice) == FakeTokenizer::Ids(kText)
                    ? 1
                    : 0;
      }
    });
  }
  for (std::thread& client : clients) {
    client.join();
  }
  EXPECT_EQ(good, 64);
  EXPECT_LT(tokenizer.decode_messages(), tokenizer.decode_inputs());
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

}  // namespace
}  // namespace yangtuo::gateway
