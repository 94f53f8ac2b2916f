#include "services/inference/inference_service.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "services/common/metrics.h"
#include "services/common/status.h"
#include "tests/services/inference/fake_engine.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

SampledToken Token(TokenId id, float logprob = 0) {
  return {.id = id, .logprob = logprob, .top = {}};
}

SequenceOutcome Outcome(std::int32_t generated_tokens) {
  SequenceOutcome outcome;
  outcome.generated_tokens = generated_tokens;
  return outcome;
}

SequenceOutcome Failed(absl::Status status) {
  SequenceOutcome outcome;
  outcome.status = std::move(status);
  return outcome;
}

class InferenceServiceTest : public ::testing::Test {
 protected:
  InferenceServiceTest() { Start({}); }
  ~InferenceServiceTest() override {
    board_->Close(absl::UnavailableError("end of test"));
    server_->Shutdown();
  }

  void Start(InferenceService::Options options) {
    if (server_ != nullptr) {
      server_->Shutdown();
    }
    service_ = std::make_unique<InferenceService>(*board_, worker_metrics_, clock_, options);
    grpc::ServerBuilder builder;
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = pb::InferenceService::NewStub(server_->InProcessChannel({}));
  }

  void Serve() { service_->Serve(engine_, {.stage = engine_.stage_info(), .eos_ids = {2}}); }

  static pb::GenerateRequest Request() {
    pb::GenerateRequest request;
    request.set_request_id("r1");
    request.add_prompt_ids(1);
    request.mutable_sampling()->set_seed(7);
    return request;
  }

  pb::WorkerStatus Status() {
    pb::WorkerStatus status;
    status.set_model("m");
    status.set_ready(ready_.load());
    return status;
  }

  std::atomic<bool> ready_ = false;
  testing::FakeEngine engine_;
  SteadyClock clock_;
  Metrics metrics_;
  WorkerMetrics worker_metrics_{metrics_};
  std::shared_ptr<StatusBoard> board_ = std::make_shared<StatusBoard>([this] { return Status(); });
  std::unique_ptr<InferenceService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<pb::InferenceService::Stub> stub_;
};

// What a whole Generate call gave.
struct Answer {
  std::vector<std::uint32_t> ids;
  std::vector<std::string> logprobs;
  int messages = 0;
  std::optional<pb::GenerateFinished> finished;
  absl::Status status;
};

Answer ReadAll(grpc::ClientReader<pb::GenerateResponse>& reader) {
  Answer answer;
  pb::GenerateResponse response;
  while (reader.Read(&response)) {
    ++answer.messages;
    answer.ids.insert(answer.ids.end(), response.delta().ids().begin(),
                      response.delta().ids().end());
    for (const auto& position : response.delta().prompt_logprobs()) {
      answer.logprobs.push_back(absl::StrFormat("prompt %d", position.chosen().token_id()));
    }
    for (const auto& position : response.delta().logprobs()) {
      answer.logprobs.push_back(
          absl::StrFormat("%d of %d", position.chosen().token_id(), position.top_size()));
    }
    if (response.has_finished()) {
      answer.finished = response.finished();
    }
  }
  answer.status = FromGrpc(reader.Finish());
  return answer;
}

TEST_F(InferenceServiceTest, StreamsTokensInOrderAndEndsWithFinished) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  const auto [id, request] = engine_.Await();
  EXPECT_THAT(request.prompt_ids, ElementsAre(1));
  EXPECT_EQ(request.deadline, std::nullopt);
  SequenceSink& sink = engine_.sink(id);
  for (TokenId token = 10; token < 60; ++token) {
    sink.OnToken(Token(token));
  }
  SequenceOutcome outcome = Outcome(50);
  outcome.reason = FinishReason::kLength;
  sink.OnFinished(outcome);
  const Answer answer = ReadAll(*reader);
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  ASSERT_EQ(answer.ids.size(), 50U);
  for (std::uint32_t i = 0; i < 50; ++i) {
    EXPECT_EQ(answer.ids[i], 10 + i);
  }
  ASSERT_TRUE(answer.finished.has_value());
  EXPECT_EQ(answer.finished->reason(), yangtuo::v1::FINISH_REASON_LENGTH);
  EXPECT_THAT(answer.logprobs, ::testing::IsEmpty());
  const std::string exposed = metrics_.Expose();
  EXPECT_THAT(exposed, HasSubstr("yangtuo_generation_tokens_total 50"));
  EXPECT_THAT(exposed, HasSubstr("yangtuo_inter_token_seconds_count 49"));
  EXPECT_THAT(exposed, HasSubstr("yangtuo_ttft_seconds_count 1"));
}

TEST_F(InferenceServiceTest, FirstMessageTellsWhatOfThePromptWasCached) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  const SequenceId id = engine_.Await().first;
  engine_.sink(id).OnStarted(32);
  engine_.sink(id).OnToken(Token(10));
  pb::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_THAT(response.delta().ids(), ElementsAre(10U));
  EXPECT_EQ(response.delta().cached_prompt_tokens(), 32U);
  engine_.sink(id).OnToken(Token(11));
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.delta().cached_prompt_tokens(), 0U);
  engine_.sink(id).OnFinished(Outcome(2));
  EXPECT_TRUE(ReadAll(*reader).status.ok());
}

TEST_F(InferenceServiceTest, TokensThatWaitTravelTogether) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  SequenceSink& sink = engine_.sink(engine_.Await().first);
  // The client reads nothing yet; flow control lets some messages through and stops the rest.
  for (int i = 0; i < 20000; ++i) {
    sink.OnToken(Token(i % 100));
  }
  sink.OnFinished(Outcome(20000));
  const Answer answer = ReadAll(*reader);
  EXPECT_TRUE(answer.status.ok()) << answer.status;
  EXPECT_EQ(answer.ids.size(), 20000U);
  EXPECT_LT(answer.messages, 15000);
}

TEST_F(InferenceServiceTest, LogprobsTravelWithTheirTokens) {
  Serve();
  pb::GenerateRequest request = Request();
  request.mutable_sampling()->set_logprobs(1);
  request.set_prompt_logprobs(true);
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, request);
  SequenceSink& sink = engine_.sink(engine_.Await().first);
  const std::vector<SampledToken> prompt = {Token(31), Token(32)};
  sink.OnPromptLogprobs(prompt);
  sink.OnToken({.id = 5, .logprob = -1, .top = {{6, -0.5F}}});
  sink.OnFinished(Outcome(1));
  EXPECT_THAT(ReadAll(*reader).logprobs, ElementsAre("prompt 31", "prompt 32", "5 of 1"));
}

TEST_F(InferenceServiceTest, AClientThatLeavesCancelsItsSequence) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  const SequenceId id = engine_.Await().first;
  engine_.sink(id).OnToken(Token(5));
  context.TryCancel();
  EXPECT_EQ(engine_.AwaitCancel(), id);
  engine_.sink(id).OnFinished(Failed(absl::CancelledError("cancelled")));
  EXPECT_TRUE(absl::IsCancelled(ReadAll(*reader).status));
}

TEST_F(InferenceServiceTest, AClientThatReadsTooSlowlyIsCutOff) {
  Start({.max_pending_bytes = 4096});
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  const SequenceId id = engine_.Await().first;
  SequenceSink& sink = engine_.sink(id);
  std::thread canceller([this, id] { EXPECT_EQ(engine_.AwaitCancel(), id); });
  // In one reaction-free burst more than the limit waits behind the first write.
  for (int i = 0; i < 2'000'000; ++i) {
    sink.OnToken(Token(1));
  }
  sink.OnFinished(Failed(absl::CancelledError("cancelled")));
  canceller.join();
  const Answer answer = ReadAll(*reader);
  EXPECT_TRUE(absl::IsResourceExhausted(answer.status)) << answer.status;
  EXPECT_EQ(ReasonOf(answer.status), "CLIENT_TOO_SLOW");
  EXPECT_LT(answer.ids.size(), 2'000'000U);
}

TEST_F(InferenceServiceTest, TheCallsDeadlineBecomesTheSequences) {
  Serve();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  auto reader = stub_->Generate(&context, Request());
  const auto [id, request] = engine_.Await();
  ASSERT_TRUE(request.deadline.has_value());
  const double left = ToSeconds(*request.deadline - clock_.Now());
  EXPECT_GT(left, 20);
  EXPECT_LT(left, 31);  // gRPC rounds up
  engine_.sink(id).OnFinished(Failed(absl::DeadlineExceededError("late")));
  EXPECT_TRUE(absl::IsDeadlineExceeded(ReadAll(*reader).status));
}

TEST_F(InferenceServiceTest, RefusalsOfTheEngineCarryReasonAndRetryHint) {
  Serve();
  engine_.RefuseWith(absl::ResourceExhaustedError("queue full: 3 wait"));
  grpc::ClientContext context;
  const Answer answer = ReadAll(*stub_->Generate(&context, Request()));
  EXPECT_TRUE(absl::IsResourceExhausted(answer.status));
  EXPECT_EQ(ReasonOf(answer.status), "QUEUE_FULL");
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("3 wait"));
}

TEST_F(InferenceServiceTest, BadFieldsNeverReachTheEngine) {
  Serve();
  pb::GenerateRequest request = Request();
  request.mutable_sampling()->set_top_p(7);
  grpc::ClientContext context;
  EXPECT_TRUE(absl::IsInvalidArgument(ReadAll(*stub_->Generate(&context, request)).status));
  request = Request();
  request.set_request_id("line\nbreak");
  grpc::ClientContext second;
  EXPECT_TRUE(absl::IsInvalidArgument(ReadAll(*stub_->Generate(&second, request)).status));
  EXPECT_THAT(metrics_.Expose(), HasSubstr("yangtuo_requests_total{code=\"INVALID_ARGUMENT\"} 2"));
}

TEST_F(InferenceServiceTest, WhileLoadingGenerateSaysSo) {
  grpc::ClientContext context;
  const Answer answer = ReadAll(*stub_->Generate(&context, Request()));
  EXPECT_TRUE(absl::IsUnavailable(answer.status));
  EXPECT_THAT(std::string(answer.status.message()), HasSubstr("loading"));
}

TEST_F(InferenceServiceTest, TheEndOfADrainCancelsWhatRunsAsUnavailable) {
  Serve();
  grpc::ClientContext context;
  auto reader = stub_->Generate(&context, Request());
  const SequenceId id = engine_.Await().first;
  engine_.sink(id).OnToken(Token(5));
  service_->NoteDraining();
  service_->CancelAll();
  EXPECT_EQ(engine_.AwaitCancel(), id);
  engine_.sink(id).OnFinished(Failed(absl::CancelledError("cancelled")));
  const Answer answer = ReadAll(*reader);
  EXPECT_TRUE(absl::IsUnavailable(answer.status)) << answer.status;
  EXPECT_EQ(ReasonOf(answer.status), "DRAINING");
  EXPECT_THAT(answer.ids, ElementsAre(5U));
}

TEST_F(InferenceServiceTest, EmbedReturnsTheVector) {
  Serve();
  std::thread player([this] {
    const auto [id, request] = engine_.Await();
    EXPECT_EQ(request.task, SequenceTask::kEmbed);
    engine_.sink(id).OnEmbedding({0.6F, 0.8F});
    engine_.sink(id).OnFinished({});
  });
  pb::EmbedRequest request;
  request.add_ids(4);
  pb::EmbedResponse response;
  grpc::ClientContext context;
  EXPECT_TRUE(stub_->Embed(&context, request, &response).ok());
  EXPECT_THAT(response.values(), ElementsAre(0.6F, 0.8F));
  player.join();
}

TEST_F(InferenceServiceTest, WatchShowsNowAndAtEveryChangeOfReadiness) {
  grpc::ClientContext context;
  auto reader = stub_->WatchStatus(&context, {});
  pb::WatchStatusResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status().model(), "m");
  EXPECT_FALSE(response.status().ready());
  const TimePoint start = clock_.Now();
  board_->OnTick(start);
  ASSERT_TRUE(reader->Read(&response));  // a first tick shows the status
  ready_.store(true);
  board_->OnTick(start + std::chrono::milliseconds(100));
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_TRUE(response.status().ready());
  board_->OnTick(start + std::chrono::milliseconds(200));   // no change: nothing
  board_->OnTick(start + std::chrono::milliseconds(1200));  // a second: shown again
  ASSERT_TRUE(reader->Read(&response));
  board_->Close(absl::UnavailableError("shutting down"));
  ASSERT_TRUE(reader->Read(&response));  // the last one
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(InferenceServiceTest, GetStatusWorksWithoutAnEngine) {
  grpc::ClientContext context;
  pb::GetStatusResponse response;
  ASSERT_TRUE(stub_->GetStatus(&context, {}, &response).ok());
  EXPECT_EQ(response.status().model(), "m");
}

}  // namespace
}  // namespace yangtuo
