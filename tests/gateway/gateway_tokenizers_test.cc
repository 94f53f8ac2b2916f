// Tokenizers that are lost, slow or about to end, and what is left of text streams.

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "gateway/tokenizer_pool.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/gateway_harness.h"

namespace yangtuo::gateway {
namespace {

using testing::FakeTokenizer;
using testing::FakeWorker;
using ::testing::HasSubstr;

TEST(LostTokenizerTest, InTheMiddleTheTextGoesOnAtAnotherReplica) {
  FakeWorker worker(Slowly(Says("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。")));
  FakeTokenizer one;
  FakeTokenizer two;
  Cluster cluster({&worker}, {&one, &two});
  ASSERT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
  const int before = one.decode_inputs();
  bool killed = false;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !killed) {
      killed = true;
      (one.decode_inputs() > before ? one : two).Kill();
    }
  });
  EXPECT_THAT(cluster.Exposed(), HasSubstr("yangtuo_retries_total{peer=\"tokenizer\"} 1"));
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。");
  const Answer again = cluster.Ask(TextRequest("x"));
  EXPECT_TRUE(again.status.ok()) << again.status;
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostTokenizerTest, OneThatIsGoingToEndGetsNothingNewWhileThereIsAnother) {
  FakeWorker worker(Says(kText));
  FakeTokenizer one;
  FakeTokenizer two;
  Cluster cluster({&worker}, {&one, &two});
  one.SetDraining(true);
  const auto taken_by_one = [&] {
    const int before = one.decode_inputs();
    for (int i = 0; i < 4; ++i) {
      EXPECT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
    }
    return one.decode_inputs() - before;
  };
  EXPECT_TRUE(Eventually([&] { return taken_by_one() == 0; }));
  two.Kill();
  EXPECT_TRUE(Eventually([&] { return cluster.Ask(TextRequest("x")).status.ok(); }));
  EXPECT_GT(taken_by_one(), 0) << "better than none";
}

class NoEvents final : public TextEvents {
  void OnText(std::string_view /*text*/, std::uint32_t /*ids_consumed*/) override {}
  void OnTextEnd(const absl::Status& /*status*/) override {}
};

// Requests that end before their first token leave nothing behind in the call that lives on.
TEST(TextStreamTest, WhatIsAbandonedIsForgotten) {
  FakeTokenizer tokenizer;
  Metrics metrics;
  const auto calls = std::make_shared<LiveCalls>();
  const auto pool = TokenizerPool::Create({}, *calls, metrics.AddCounter("retries", "retries"));
  pool->SetPeers({{.target = tokenizer.address()}});
  ASSERT_TRUE(Eventually([&] {
    pool->Tick(std::chrono::steady_clock::now());
    return pool->Has("fake-tokenizer", "fake-model");
  }));
  for (const std::uint32_t ids : {0U, 1U}) {
    auto stream = pool->OpenText({.tokenizer = "fake-tokenizer"}, std::make_shared<NoEvents>());
    if (ids > 0) {
      stream->Push(std::array{FakeTokenizer::kFirstByte + 'a'});
    }
    const std::weak_ptr<TextStream> left = stream;
    stream->Abandon();
    stream.reset();
    EXPECT_TRUE(Eventually([&] { return left.expired(); })) << ids;
  }
  pool->Close();
  EXPECT_TRUE(calls->WaitForNone(std::chrono::seconds(5)));
}

TEST(LostTokenizerTest, ACallThatOneReplicaDoesNotAnswerGoesToAnother) {
  FakeWorker worker(Says(kText));
  FakeTokenizer one;
  FakeTokenizer two;
  Cluster cluster({&worker}, {&one, &two});
  ASSERT_TRUE(cluster.Ask(TextRequest("x")).status.ok());
  one.HoldEncodes(true);
  // They take turns, so one of these is with it.
  for (int i = 0; i < 2; ++i) {
    const Answer answer = cluster.Ask(TextRequest("x"), {}, std::chrono::seconds(9));
    EXPECT_TRUE(answer.status.ok()) << answer.status;
  }
  EXPECT_THAT(cluster.Exposed(), HasSubstr("yangtuo_retries_total{peer=\"tokenizer\"} 1"));
}

// The other one was down when the call began.
TEST(LostTokenizerTest, ACallThatIsNotAnsweredGoesToAReplicaThatIsBack) {
  FakeWorker worker(Says(kText));
  FakeTokenizer one;
  FakeTokenizer two;
  Cluster cluster({&worker}, {&one, &two});
  one.HoldEncodes(true);
  two.Kill();
  std::thread back([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    two.Restart();
  });
  const Answer answer = cluster.Ask(TextRequest("x"), {}, std::chrono::seconds(9));
  back.join();
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_TRUE(Eventually([&] { return cluster.Idle(); }));
}

TEST(LostTokenizerTest, TheOnlyOneMayComeBack) {
  FakeWorker worker(Slowly(Says(kText)));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer});
  bool killed = false;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !killed) {
      killed = true;
      tokenizer.Kill();
      tokenizer.Restart();
    }
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.texts.at(0), kText);
  EXPECT_EQ(answer.ids.at(0), FakeTokenizer::Ids(kText));
}

TEST(LostTokenizerTest, WithoutAnyTheAnswerIsUnavailableWithinTheLimit) {
  FakeWorker worker(Slowly(Says(kText)));
  FakeTokenizer tokenizer;
  Cluster cluster({&worker}, {&tokenizer}, [](GatewayOptions& options) {
    options.tokenizer_wait = std::chrono::milliseconds(300);
  });
  bool killed = false;
  const Answer answer = cluster.Ask(TextRequest("x"), [&](const v1::GenerateResponse& response) {
    if (response.has_delta() && !killed) {
      killed = true;
      tokenizer.Kill();
    }
  });
  EXPECT_EQ(answer.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonOf(answer.status), "NO_TOKENIZER");
  EXPECT_THAT(cluster.Exposed(),
              HasSubstr("yangtuo_tokenizer_up{tokenizer=\"" + tokenizer.address() + "\"} 0"));
  EXPECT_TRUE(Eventually([&] { return cluster.Idle() && worker.running() == 0; }));
  EXPECT_EQ(cluster.Ask(TextRequest("x")).status.code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace yangtuo::gateway
