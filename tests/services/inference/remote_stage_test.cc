#include "services/inference/remote_stage.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/inference/shard_codec.h"
#include "services/inference/shard_frame.h"
#include "tests/services/inference/shard_harness.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;
using ::testing::HasSubstr;
using testing::PeerAt;
using testing::QuickTiming;
using testing::ShardInfo;
using testing::ShardServer;

SampledToken Token(TokenId id, float logprob = 0) {
  return {.id = id, .logprob = logprob, .top = {}};
}

Step OpeningStep(std::uint64_t id, SequenceId sequence) {
  Step step;
  step.id = id;
  SequenceOpen open;
  open.id = sequence;
  open.prompt_ids = {1, 2, 3};
  open.sampling.seed = 5;
  step.opens = {open};
  step.rows = {{.id = sequence,
                .first_position = 0,
                .token_ids = {1, 2, 3},
                .kv_blocks = {0},
                .want_output = true}};
  return step;
}

std::string Words(const absl::Status& status) { return std::string(status.message()); }

TEST(RemoteStageTest, GivesWhatTheStageBehindGives) {
  Ticker ticker;
  ShardServer server(ShardInfo(1, 2), ticker, nullptr);
  const auto stage = RemoteStage::Connect(PeerAt(server.port(), 1, 2, ticker));
  ASSERT_TRUE(stage.ok()) << stage.status();
  EXPECT_EQ((*stage)->info().kv_blocks, 64);
  EXPECT_EQ((*stage)->info().depth, 1);
  EXPECT_TRUE((*stage)->presence()->connected());
  ASSERT_TRUE((*stage)->Submit(OpeningStep(1, 9)).ok());
  const absl::StatusOr<StepResult> result = (*stage)->Next();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->samples.at(0).token.id,
            testing::FakeStage::Expected(testing::FakeOptions(), {1, 2, 3}, 5, 1).at(0));
  EXPECT_TRUE(absl::IsFailedPrecondition((*stage)->Next().status()));
}

TEST(RemoteStageTest, SeveralStepsAreInFlight) {
  Ticker ticker;
  ShardServer server(ShardInfo(1, 2), ticker, nullptr);
  std::atomic<bool> go = false;
  server.stage().before_submit = [&go](const Step&) {
    while (!go.load()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return absl::OkStatus();
  };
  const auto stage = RemoteStage::Connect(PeerAt(server.port(), 1, 2, ticker));
  ASSERT_TRUE(stage.ok()) << stage.status();
  for (std::uint64_t id = 1; id <= 4; ++id) {
    ASSERT_TRUE((*stage)->Submit(OpeningStep(id, id)).ok());
  }
  go.store(true);
  for (std::uint64_t id = 1; id <= 4; ++id) {
    const absl::StatusOr<StepResult> result = (*stage)->Next();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->id, id);
  }
}

TEST(RemoteStageTest, MismatchesAreRefusedNamingBothSides) {
  Ticker ticker;
  ShardServer server(ShardInfo(1, 2), ticker, nullptr);
  const std::vector<std::pair<std::function<void(StageInfo&)>, const char*>> misfits = {
      {[](StageInfo& i) { i.model_digest = "other"; },
       "digest is other at the caller and digest at"},
      {[](StageInfo& i) { i.numerics = "bf16"; }, "numerics is bf16 at the caller and fake/v1 at"},
      {[](StageInfo& i) { i.first_layer = 2; }, "is 2 at the caller and 1 at the called shard"},
      {[](StageInfo& i) { i.kv_block_size = 8; }, "block size is 8 at the caller and 4 at"}};
  for (const auto& [change, words] : misfits) {
    ShardPeer peer = PeerAt(server.port(), 1, 2, ticker);
    change(peer.expected);
    const absl::Status status = RemoteStage::Connect(peer).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(Words(status), HasSubstr(words));
    EXPECT_THAT(Words(status), HasSubstr("shard at 127.0.0.1:"));
  }
}

TEST(RemoteStageTest, AShardThatIsNotThereCostsOneBoundedAttempt) {
  Ticker ticker;
  int port = 0;
  {
    const ShardServer server(ShardInfo(1, 2), ticker, nullptr);
    port = server.port();
  }
  const TimePoint start = SteadyClock().Now();
  const absl::Status status = RemoteStage::Connect(PeerAt(port, 1, 2, ticker)).status();
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_LT(ToSeconds(SteadyClock().Now() - start), 3);
}

TEST(RemoteStageTest, ALostShardEndsTheStepsAndResetBringsItBack) {
  Ticker ticker;
  auto server = std::make_unique<ShardServer>(ShardInfo(1, 2), ticker, nullptr);
  const int port = server->port();
  const auto stage = RemoteStage::Connect(PeerAt(port, 1, 2, ticker));
  ASSERT_TRUE(stage.ok()) << stage.status();
  server->stage().before_submit = [](const Step&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return absl::OkStatus();
  };
  ASSERT_TRUE((*stage)->Submit(OpeningStep(1, 1)).ok());
  server.reset();
  EXPECT_TRUE(absl::IsUnavailable((*stage)->Next().status()));
  EXPECT_FALSE((*stage)->presence()->connected());
  EXPECT_TRUE(absl::IsUnavailable((*stage)->Submit(OpeningStep(2, 2))));
  EXPECT_TRUE(absl::IsUnavailable((*stage)->Reset()));
  server = std::make_unique<ShardServer>(ShardInfo(1, 2), ticker, nullptr, port);
  ASSERT_TRUE((*stage)->Reset().ok());
  EXPECT_TRUE((*stage)->presence()->connected());
  ASSERT_TRUE((*stage)->Submit(OpeningStep(3, 3)).ok());
  EXPECT_TRUE((*stage)->Next().ok());
}

TEST(RemoteStageTest, AShardThatComesBackSmallerDoesNotFitAnyMore) {
  Ticker ticker;
  auto server = std::make_unique<ShardServer>(ShardInfo(1, 2), ticker, nullptr);
  const int port = server->port();
  const auto stage = RemoteStage::Connect(PeerAt(port, 1, 2, ticker));
  ASSERT_TRUE(stage.ok()) << stage.status();
  server.reset();
  StageInfo smaller = ShardInfo(1, 2);
  smaller.kv_blocks = 63;
  server = std::make_unique<ShardServer>(smaller, ticker, nullptr, port);
  const absl::Status status = (*stage)->Reset();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(Words(status), HasSubstr("KV blocks is 64 at the caller and only 63"));
}

TEST(RemoteStageTest, ANewerEpochReplacesTheOldStream) {
  Ticker ticker;
  ShardServer server(ShardInfo(1, 2), ticker, nullptr);
  const auto first = RemoteStage::Connect(PeerAt(server.port(), 1, 2, ticker));
  ASSERT_TRUE(first.ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // epochs begin at the time of day
  const auto second = RemoteStage::Connect(PeerAt(server.port(), 1, 2, ticker));
  ASSERT_TRUE(second.ok()) << second.status();
  ASSERT_TRUE((*second)->Submit(OpeningStep(1, 1)).ok());
  EXPECT_TRUE((*second)->Next().ok());
  // The replaced stream ends by itself.
  while ((*first)->presence()->connected()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_TRUE(absl::IsUnavailable((*first)->Submit(OpeningStep(1, 1))));
  EXPECT_TRUE((*second)->presence()->connected());
}

TEST(RemoteStageTest, AskingWhatAShardIsDoesNotDisturbItsGroup) {
  Ticker ticker;
  ShardServer server(ShardInfo(1, 2), ticker, nullptr);
  const auto stage = RemoteStage::Connect(PeerAt(server.port(), 1, 2, ticker));
  ASSERT_TRUE(stage.ok());
  for (int i = 0; i < 20; ++i) {
    const auto welcome = DescribeShard(PeerAt(server.port(), 1, 2, ticker));
    ASSERT_TRUE(welcome.ok()) << welcome.status();
    EXPECT_EQ(welcome->last_layer(), 2U);
  }
  ASSERT_TRUE((*stage)->Submit(OpeningStep(1, 1)).ok());
  EXPECT_TRUE((*stage)->Next().ok());
}

TEST(RemoteStageTest, AFaultInsideAShardArrivesAsItselfAndVoidsTheStream) {
  Ticker ticker;
  ShardServer server(ShardInfo(1, 2), ticker, nullptr);
  std::atomic<bool> faulty = true;
  server.stage().before_submit = [&faulty](const Step&) {
    return faulty.exchange(false) ? absl::InternalError("NaN in layer 1") : absl::OkStatus();
  };
  const auto stage = RemoteStage::Connect(PeerAt(server.port(), 1, 2, ticker));
  ASSERT_TRUE(stage.ok());
  ASSERT_TRUE((*stage)->Submit(OpeningStep(1, 1)).ok());
  const absl::Status status = (*stage)->Next().status();
  EXPECT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_THAT(Words(status), HasSubstr("NaN in layer 1"));
  ASSERT_TRUE((*stage)->Reset().ok());
  ASSERT_TRUE((*stage)->Submit(OpeningStep(1, 1)).ok());
  EXPECT_TRUE((*stage)->Next().ok());
}

TEST(RemoteStageTest, AHungComputationIsFoundAlthoughHeartbeatsCome) {
  Ticker ticker;
  std::atomic<bool> release = false;
  ShardServer server(ShardInfo(1, 2), ticker, nullptr);
  server.stage().before_submit = [&release](const Step&) {
    while (!release.load()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return absl::OkStatus();
  };
  const auto stage = RemoteStage::Connect(PeerAt(server.port(), 1, 2, ticker));
  ASSERT_TRUE(stage.ok());
  const TimePoint start = SteadyClock().Now();
  ASSERT_TRUE((*stage)->Submit(OpeningStep(1, 1)).ok());
  const absl::Status status = (*stage)->Next().status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(Words(status), HasSubstr("hung: 1 steps pending"));
  EXPECT_LT(ToSeconds(SteadyClock().Now() - start), 3);
  release.store(true);
}

// A shard that answers as the test wants.
class ScriptedShard final : public pb::ShardService::Service {
 public:
  // Gets every step and a sealer; returns the frames to answer with.
  using Script = std::function<std::vector<pb::Frame>(const pb::StepRequest&, FrameSealer&)>;

  explicit ScriptedShard(Script script) : script_(std::move(script)) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~ScriptedShard() override { server_->Shutdown(std::chrono::system_clock::now()); }
  [[nodiscard]] int port() const { return port_; }

  static pb::Frame Result(const pb::StepRequest& step, FrameSealer& sealer) {
    StepResult result;
    result.id = step.step_id();
    result.samples = {{step.rows(0).sequence(), Token(7)}};
    return sealer.Seal(pb::FRAME_KIND_RESULT, EncodeStepResult(result).SerializeAsString());
  }

 private:
  grpc::Status Run(grpc::ServerContext* /*context*/,
                   grpc::ServerReaderWriter<pb::RunResponse, pb::RunRequest>* stream) override {
    pb::RunRequest request;
    FrameSealer sealer;
    while (stream->Read(&request)) {
      pb::RunResponse response;
      if (request.has_hello()) {
        *response.mutable_welcome() = MakeWelcome(ShardInfo(1, 2), 2, request.hello().epoch());
        stream->Write(response);
        continue;
      }
      pb::StepRequest step;
      if (request.frame().kind() != pb::FRAME_KIND_STEP ||
          !step.ParseFromString(request.frame().payload())) {
        continue;
      }
      for (pb::Frame& frame : script_(step, sealer)) {
        *response.mutable_frame() = std::move(frame);
        stream->Write(response);
      }
    }
    return grpc::Status::OK;
  }

  const Script script_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

// Submits two steps and returns the first error.
absl::Status RunTwoSteps(const ScriptedShard& shard, ShardTiming timing = QuickTiming()) {
  Ticker ticker;
  ShardPeer peer = PeerAt(shard.port(), 1, 2, ticker);
  peer.timing = timing;
  auto stage = RemoteStage::Connect(std::move(peer));
  if (!stage.ok()) {
    return stage.status();
  }
  for (std::uint64_t id = 1; id <= 2; ++id) {
    if (absl::Status status = (*stage)->Submit(OpeningStep(id, id)); !status.ok()) {
      return status;
    }
    if (const auto result = (*stage)->Next(); !result.ok()) {
      return result.status();
    }
  }
  return absl::OkStatus();
}

TEST(FaultyFrameTest, AnHonestScriptPasses) {
  const ScriptedShard shard([](const pb::StepRequest& step, FrameSealer& sealer) {
    return std::vector<pb::Frame>{ScriptedShard::Result(step, sealer)};
  });
  EXPECT_TRUE(RunTwoSteps(shard).ok());
}

struct FrameFault {
  const char* name;
  ScriptedShard::Script script;
  const char* words;
};

class FaultyFrameTest : public ::testing::TestWithParam<FrameFault> {};

TEST_P(FaultyFrameTest, VoidsTheStreamAndGivesNoToken) {
  const ScriptedShard shard(GetParam().script);
  const absl::Status status = RunTwoSteps(shard);
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Words(status), HasSubstr(GetParam().words));
  EXPECT_THAT(Words(status), HasSubstr("DATA_LOSS"));
}

using Frames = std::vector<pb::Frame>;

INSTANTIATE_TEST_SUITE_P(
    All, FaultyFrameTest,
    ::testing::Values(FrameFault{"Torn",
                                 [](const pb::StepRequest& step, FrameSealer& sealer) {
                                   pb::Frame frame = ScriptedShard::Result(step, sealer);
                                   (*frame.mutable_payload())[3] ^= 1;
                                   return Frames{frame};
                                 },
                                 "frame 1 is torn"},
                      FrameFault{"Lost",
                                 [](const pb::StepRequest& step, FrameSealer& sealer) {
                                   ScriptedShard::Result(step, sealer);
                                   return Frames{ScriptedShard::Result(step, sealer)};
                                 },
                                 "frame 2 arrived where frame 1 was due"},
                      FrameFault{"Repeated",
                                 [](const pb::StepRequest& step, FrameSealer& sealer) {
                                   const pb::Frame frame = ScriptedShard::Result(step, sealer);
                                   return Frames{frame, frame};
                                 },
                                 "frame 1 arrived where frame 2 was due"},
                      FrameFault{"AnswerToAnotherStep",
                                 [](const pb::StepRequest& step, FrameSealer& sealer) {
                                   pb::StepRequest other = step;
                                   other.set_step_id(step.step_id() + 1);
                                   return Frames{ScriptedShard::Result(other, sealer)};
                                 },
                                 "answer to step 2, expected step 1"},
                      FrameFault{"NoResult",
                                 [](const pb::StepRequest&, FrameSealer& sealer) {
                                   return Frames{sealer.Seal(pb::FRAME_KIND_STEP, "")};
                                 },
                                 "frame 1 is no result"},
                      FrameFault{"Garbage",
                                 [](const pb::StepRequest&, FrameSealer& sealer) {
                                   return Frames{
                                       sealer.Seal(pb::FRAME_KIND_RESULT, "\xFF\xFF\xFF")};
                                 },
                                 "frame 1 is no result"},
                      FrameFault{"TokenOutsideTheVocabulary",
                                 [](const pb::StepRequest& step, FrameSealer& sealer) {
                                   StepResult result;
                                   result.id = step.step_id();
                                   result.samples = {{1, Token(1000)}};
                                   return Frames{
                                       sealer.Seal(pb::FRAME_KIND_RESULT,
                                                   EncodeStepResult(result).SerializeAsString())};
                                 },
                                 "token id 1000"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(SilentShardTest, IsFoundWithinThreeSecondsByTheDefaultTiming) {
  const ScriptedShard shard([](const pb::StepRequest&, FrameSealer&) { return Frames{}; });
  const TimePoint start = SteadyClock().Now();
  const absl::Status status = RunTwoSteps(shard, ShardTiming());
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(Words(status), HasSubstr("no sign of life"));
  EXPECT_LT(ToSeconds(SteadyClock().Now() - start), 3);
}

// The calling side by hand, against the real service.
class RawCallerTest : public ::testing::Test {
 protected:
  RawCallerTest() {
    server_ = std::make_unique<ShardServer>(ShardInfo(1, 2), ticker_, nullptr);
    stub_ = pb::ShardService::NewStub(PeerAt(server_->port(), 1, 2, ticker_).channel);
    stream_ = stub_->Run(&context_);
  }

  void Greet() {
    *request_.mutable_hello() = MakeHello(ShardInfo(1, 2), 1, 0, std::chrono::milliseconds(100));
    stream_->Write(request_);
    ASSERT_TRUE(stream_->Read(&response_));
    ASSERT_TRUE(response_.has_welcome());
  }

  void SendFrame(const pb::Frame& frame) {
    *request_.mutable_frame() = frame;
    stream_->Write(request_);
  }

  grpc::Status ReadToEnd() {
    while (stream_->Read(&response_)) {
    }
    return stream_->Finish();
  }

  static std::string Payload(std::uint64_t step_id) {
    return EncodeStep(OpeningStep(step_id, step_id)).SerializeAsString();
  }

  Ticker ticker_;
  std::unique_ptr<ShardServer> server_;
  std::unique_ptr<pb::ShardService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<pb::RunRequest, pb::RunResponse>> stream_;
  pb::RunRequest request_;
  pb::RunResponse response_;
  FrameSealer sealer_;
};

TEST_F(RawCallerTest, AFrameBeforeTheHelloIsRefused) {
  SendFrame(sealer_.Seal(pb::FRAME_KIND_STEP, Payload(1)));
  EXPECT_EQ(ReadToEnd().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(RawCallerTest, ATornStepEndsTheStreamWithDataLoss) {
  Greet();
  pb::Frame frame = sealer_.Seal(pb::FRAME_KIND_STEP, Payload(1));
  frame.mutable_payload()->back() ^= 1;
  SendFrame(frame);
  const grpc::Status status = ReadToEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(status.error_message(), HasSubstr("frame 1 is torn"));
}

TEST_F(RawCallerTest, AStepTwiceEndsTheStreamWithDataLoss) {
  Greet();
  SendFrame(sealer_.Seal(pb::FRAME_KIND_STEP, Payload(1)));
  SendFrame(sealer_.Seal(pb::FRAME_KIND_STEP, Payload(1)));
  EXPECT_EQ(ReadToEnd().error_code(), grpc::StatusCode::DATA_LOSS);
}

TEST_F(RawCallerTest, AStepThatDoesNotFitTheShardIsRefused) {
  Greet();
  Step step = OpeningStep(1, 1);
  step.rows[0].kv_blocks = {64};
  SendFrame(sealer_.Seal(pb::FRAME_KIND_STEP, EncodeStep(step).SerializeAsString()));
  const grpc::Status status = ReadToEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("KV block 64, this shard has 64"));
}

TEST_F(RawCallerTest, ASilentCallerIsForgotten) {
  Greet();
  EXPECT_TRUE(server_->host().state().connected);
  const grpc::Status status = ReadToEnd();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("no sign of life"));
  EXPECT_FALSE(server_->host().state().connected);
}

TEST_F(RawCallerTest, DrainingWaitsForQuietAndThenSaysGoodbye) {
  Greet();
  server_->host().Drain(std::chrono::milliseconds(50),
                        SteadyClock().Now() + std::chrono::seconds(10));
  EXPECT_EQ(ReadToEnd().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace yangtuo
