// Peers that come and go, limits, clients that leave or do not read, draining.

#include <atomic>
#include <memory>
#include <mutex>
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
