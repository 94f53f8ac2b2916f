// Groups of shards, driven by a real engine: the tokens of one process, whatever happens to shards.

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/engine/engine.h"
#include "services/inference/relay_stage.h"
#include "services/inference/shard_handshake.h"
#include "tests/services/inference/shard_harness.h"

namespace yangtuo {
namespace {

using testing::FakeOptions;
using testing::FakeStage;
using testing::PeerAt;
using testing::ShardInfo;
using testing::ShardServer;

// Collects one sequence.
class Collector final : public SequenceSink {
 public:
  void OnStarted(std::int32_t /*cached_prompt_tokens*/) override {}
  void OnToken(SampledToken token) override {
    const MutexLock lock(mutex_);
    tokens_.push_back(token.id);
    changed_.NotifyAll();
  }
  void OnPromptLogprobs(std::span<const SampledToken> /*entries*/) override {}
  void OnEmbedding(std::vector<float> /*values*/) override {}
  void OnFinished(const SequenceOutcome& outcome) override {
    const MutexLock lock(mutex_);
    outcome_ = outcome;
    changed_.NotifyAll();
  }

  void AwaitTokens(std::size_t count) {
    const MutexLock lock(mutex_);
    while (tokens_.size() < count && !outcome_.has_value()) {
      changed_.Wait(mutex_);
    }
  }
  SequenceOutcome Await() {
    const MutexLock lock(mutex_);
    while (!outcome_.has_value()) {
      changed_.Wait(mutex_);
    }
    return *outcome_;
  }
  std::vector<TokenId> tokens() {
    const MutexLock lock(mutex_);
    return tokens_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::vector<TokenId> tokens_ ABSL_GUARDED_BY(mutex_);
  std::optional<SequenceOutcome> outcome_ ABSL_GUARDED_BY(mutex_);
};

// A leader (whose stage is the chain behind it) and the two shards behind: layers 1 and 2 of 3.
class ShardGroupTest : public ::testing::Test {
 protected:
  static constexpr std::int32_t kShards = 3;

  void StartHead(int port = 0) {
    head_ = std::make_unique<ShardServer>(ShardInfo(2, kShards), ticker_, nullptr, port);
    head_->stage().before_submit = [this](const Step&) {
      std::this_thread::sleep_for(step_time_.load());
      return absl::OkStatus();
    };
  }
  void StartMiddle(int port = 0) {
    auto relay = RelayStage::Describe(PeerAt(head_->port(), 2, kShards, ticker_));
    ASSERT_TRUE(relay.ok()) << relay.status();
    middle_ =
        std::make_unique<ShardServer>(ShardInfo(1, kShards), ticker_, *std::move(relay), port);
  }
  void StartLeader() {
    auto stage = RemoteStage::Connect(PeerAt(middle_->port(), 1, kShards, ticker_));
    ASSERT_TRUE(stage.ok()) << stage.status();
    EXPECT_EQ((*stage)->info().depth, 2);
    EngineOptions options;
    options.step_tokens = 16;
    options.recovery_pause = std::chrono::milliseconds(50);
    auto engine = Engine::Create(options, *std::move(stage), clock_, nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  void SetUp() override {
    StartHead();
    StartMiddle();
    StartLeader();
  }

  SequenceId Submit(Collector& sink, std::uint64_t seed, std::int32_t count) {
    EngineRequest request;
    request.prompt_ids = Prompt(seed);
    request.sampling.seed = seed;
    request.max_new_tokens = count;
    const absl::StatusOr<SequenceId> id = engine_->Submit(std::move(request), &sink);
    EXPECT_TRUE(id.ok()) << id.status();
    return id.value_or(0);
  }
  static std::vector<TokenId> Prompt(std::uint64_t seed) {
    std::vector<TokenId> prompt;
    for (TokenId i = 0; i < 20 + static_cast<TokenId>(seed % 7); ++i) {
      prompt.push_back((i * 31 + static_cast<TokenId>(seed)) % 1000);
    }
    return prompt;
  }
  static std::vector<TokenId> Expected(std::uint64_t seed, std::int32_t count) {
    return FakeStage::Expected(FakeOptions(), Prompt(seed), seed, count);
  }

  // Eight streams, one fault in the middle of them: every token once, in order.
  template <typename Fault>
  void ExpectStreamsSurvive(const Fault& fault) {
    constexpr std::size_t kStreams = 4;
    constexpr std::int32_t kTokens = 24;
    step_time_.store(std::chrono::milliseconds(10));
    std::vector<std::unique_ptr<Collector>> streams;
    for (std::size_t i = 0; i < kStreams; ++i) {
      streams.push_back(std::make_unique<Collector>());
      Submit(*streams.back(), i + 1, kTokens);
    }
    streams.front()->AwaitTokens(5);
    fault();
    for (std::size_t i = 0; i < kStreams; ++i) {
      EXPECT_TRUE(streams[i]->Await().status.ok()) << streams[i]->Await().status;
      EXPECT_EQ(streams[i]->tokens(), Expected(i + 1, kTokens)) << "stream " << i;
    }
    EXPECT_EQ(engine_->load().kv_blocks_free, engine_->load().kv_blocks_total);
  }

  SteadyClock clock_;
  Ticker ticker_{std::chrono::milliseconds(50)};
  std::atomic<std::chrono::milliseconds> step_time_ = std::chrono::milliseconds(0);
  std::unique_ptr<ShardServer> head_;
  std::unique_ptr<ShardServer> middle_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(ShardGroupTest, AChainGivesTheTokensOfOneStage) {
  ExpectStreamsSurvive([] {});
}

TEST_F(ShardGroupTest, AKilledHeadThatComesBackLosesAndRepeatsNoToken) {
  ExpectStreamsSurvive([this] {
    const int port = head_->port();
    head_.reset();
    StartHead(port);
  });
}

TEST_F(ShardGroupTest, AKilledMiddleShardThatComesBackLosesAndRepeatsNoToken) {
  ExpectStreamsSurvive([this] {
    const int port = middle_->port();
    middle_.reset();
    StartMiddle(port);
  });
}

TEST_F(ShardGroupTest, AHungHeadThatGoesOnLaterLosesAndRepeatsNoToken) {
  const TimePoint start = clock_.Now();
  ExpectStreamsSurvive([this, start] {
    step_time_.store(std::chrono::milliseconds(1800));  // longer than the step limit
    while (engine_->load().stage_ok) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_LT(ToSeconds(clock_.Now() - start), 3);
    step_time_.store(std::chrono::milliseconds(1));
  });
}

// Epochs begin at the time of day, and clocks of machines differ: who refuses one names its own.
TEST_F(ShardGroupTest, ALeaderLearnsAnEpochThatOnlyTheLastShardKnows) {
  const ShardPeer head = PeerAt(head_->port(), 2, kShards, ticker_);
  const auto ahead = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch() + std::chrono::hours(1));
  auto another =
      ShardConnection::Open(head,
                            MakeHello(head.expected, static_cast<std::uint64_t>(ahead.count()),
                                      head.own_rank, head.timing.heartbeat),
                            {});
  ASSERT_TRUE(another.ok()) << another.status();
  another->reset();
  Collector sink;
  // The engine may refuse until the group has formed again.
  EngineRequest request;
  request.prompt_ids = Prompt(1);
  request.sampling.seed = 1;
  request.max_new_tokens = 5;
  const TimePoint limit = clock_.Now() + std::chrono::seconds(20);
  absl::StatusOr<SequenceId> id = absl::UnavailableError("");
  while (absl::IsUnavailable(id.status()) && clock_.Now() < limit) {
    id = engine_->Submit(request, &sink);
  }
  ASSERT_TRUE(id.ok()) << id.status();
  EXPECT_TRUE(sink.Await().status.ok()) << sink.Await().status;
  EXPECT_EQ(sink.tokens(), Expected(1, 5));
}

TEST_F(ShardGroupTest, AShardThatStaysAwayFailsTheStreamsAsUnavailable) {
  engine_.reset();
  auto stage = RemoteStage::Connect(PeerAt(middle_->port(), 1, kShards, ticker_));
  ASSERT_TRUE(stage.ok()) << stage.status();
  EngineOptions options;
  options.step_tokens = 16;
  options.recovery_limit = std::chrono::milliseconds(200);
  options.recovery_pause = std::chrono::milliseconds(20);
  auto engine = Engine::Create(options, *std::move(stage), clock_, nullptr);
  ASSERT_TRUE(engine.ok());
  engine_ = *std::move(engine);
  step_time_.store(std::chrono::milliseconds(10));
  Collector stream;
  Submit(stream, 1, 100);
  stream.AwaitTokens(3);
  head_.reset();
  EXPECT_TRUE(absl::IsUnavailable(stream.Await().status));
  EXPECT_EQ(engine_->load().kv_blocks_free, engine_->load().kv_blocks_total);
}

TEST_F(ShardGroupTest, ACancelledStreamFreesItsBlocksAtOnce) {
  step_time_.store(std::chrono::milliseconds(5));
  Collector stream;
  const SequenceId id = Submit(stream, 1, 200);
  stream.AwaitTokens(3);
  EXPECT_LT(engine_->load().kv_blocks_free, engine_->load().kv_blocks_total);
  engine_->Cancel(id);
  EXPECT_TRUE(absl::IsCancelled(stream.Await().status));
  while (engine_->load().kv_blocks_free != engine_->load().kv_blocks_total) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace
}  // namespace yangtuo
