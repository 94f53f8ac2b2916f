#include "services/inference/generate_translation.h"

#include <functional>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "google/rpc/error_details.pb.h"
#include "gtest/gtest.h"
#include "services/common/status.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ServedModel TestServedModel() {
  ServedModel model;
  model.stage.model_digest = "abc";
  model.stage.numerics = "f32/v1";
  model.stage.vocab = 100;
  model.stage.context_tokens = 32;
  model.eos_ids = {2};
  return model;
}

pb::GenerateRequest Minimal() {
  pb::GenerateRequest request;
  request.add_prompt_ids(1);
  request.mutable_sampling()->set_seed(7);
  return request;
}

TEST(ToEngineRequestTest, AbsentFieldsTakeTheirDocumentedDefaults) {
  const absl::StatusOr<EngineRequest> got = ToEngineRequest(Minimal(), TestServedModel());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->task, SequenceTask::kGenerate);
  EXPECT_THAT(got->prompt_ids, ElementsAre(1));
  EXPECT_EQ(got->sampling.temperature, 1.0F);
  EXPECT_EQ(got->sampling.top_k, 0);
  EXPECT_EQ(got->sampling.top_p, 1.0F);
  EXPECT_EQ(got->sampling.min_p, 0.0F);
  EXPECT_EQ(got->sampling.repetition_penalty, 1.0F);
  EXPECT_EQ(got->sampling.logprobs, std::nullopt);
  EXPECT_EQ(got->sampling.seed, 7U);
  EXPECT_EQ(got->max_new_tokens, std::nullopt);
  EXPECT_THAT(got->stop_ids, ElementsAre(2));  // the model's end of text
  EXPECT_FALSE(got->prompt_logprobs);
}

TEST(ToEngineRequestTest, EveryFieldHasItsEffect) {
  pb::GenerateRequest request = Minimal();
  request.add_resumed_ids(9);
  request.set_choice(3);
  request.set_priority(-4);
  request.set_prompt_logprobs(true);
  request.set_numerics_id("abc/f32/v1");
  request.set_tenant("blue");
  request.set_cache_salt("salt");
  auto* sampling = request.mutable_sampling();
  sampling->set_temperature(0);  // a value, not a default
  sampling->set_top_k(5);
  sampling->set_top_p(0.5F);
  sampling->set_min_p(0.25F);
  sampling->set_repetition_penalty(1.5F);
  sampling->set_presence_penalty(-2);
  sampling->set_frequency_penalty(2);
  (*sampling->mutable_logit_bias())[8] = -100;
  (*sampling->mutable_logit_bias())[4] = 1;
  sampling->set_logprobs(0);
  auto* stop = request.mutable_stop();
  stop->set_max_new_tokens(6);
  stop->set_min_new_tokens(2);
  stop->add_stop_token_ids(50);
  stop->add_stop_token_ids(50);
  stop->set_ignore_eos(true);
  const absl::StatusOr<EngineRequest> got = ToEngineRequest(request, TestServedModel());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_THAT(got->resumed_ids, ElementsAre(9));
  EXPECT_EQ(got->sampling.choice, 3U);
  EXPECT_EQ(got->priority, -4);
  EXPECT_EQ(got->tenant, "blue");
  EXPECT_EQ(got->cache_salt, "salt");
  EXPECT_TRUE(got->prompt_logprobs);
  EXPECT_EQ(got->sampling.temperature, 0.0F);
  EXPECT_EQ(got->sampling.top_k, 5);
  EXPECT_EQ(got->sampling.top_p, 0.5F);
  EXPECT_EQ(got->sampling.min_p, 0.25F);
  EXPECT_EQ(got->sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(got->sampling.presence_penalty, -2.0F);
  EXPECT_EQ(got->sampling.frequency_penalty, 2.0F);
  EXPECT_THAT(got->sampling.logit_bias, ElementsAre(std::pair(4, 1.0F), std::pair(8, -100.0F)));
  EXPECT_EQ(got->sampling.logprobs, 0);
  EXPECT_EQ(got->sampling.min_new_tokens, 2);
  EXPECT_EQ(got->max_new_tokens, 6);
  EXPECT_THAT(got->stop_ids, ElementsAre(50));
}

TEST(ToEngineRequestTest, AConstraintIsCheckedAndNeedsAnEnd) {
  pb::GenerateRequest request = Minimal();
  auto* constraint = request.mutable_sampling()->mutable_constraint();
  constraint->mutable_choices()->add_texts("yes");
  constraint->mutable_choices()->add_texts("no");
  const absl::StatusOr<EngineRequest> got = ToEngineRequest(request, TestServedModel());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->constraint, (GrammarSpec{.kind = GrammarKind::kChoice, .choices = {"yes", "no"}}));
  request.mutable_stop()->set_ignore_eos(true);
  EXPECT_TRUE(absl::IsInvalidArgument(ToEngineRequest(request, TestServedModel()).status()));
}

struct BadField {
  const char* name;
  std::function<void(pb::GenerateRequest&)> spoil;
  const char* field;
};

class BadFieldTest : public ::testing::TestWithParam<BadField> {};

TEST_P(BadFieldTest, IsRefusedByName) {
  pb::GenerateRequest request = Minimal();
  GetParam().spoil(request);
  const absl::Status status = ToEngineRequest(request, TestServedModel()).status();
  ASSERT_TRUE(absl::IsInvalidArgument(status)) << status;
  google::rpc::BadRequest details;
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  ASSERT_TRUE(details.ParseFromString(std::string(*payload)));
  EXPECT_EQ(details.field_violations(0).field(), GetParam().field);
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
using Request = pb::GenerateRequest;

INSTANTIATE_TEST_SUITE_P(
    All, BadFieldTest,
    ::testing::Values(
        BadField{"NoConstraint", [](Request& r) { r.mutable_sampling()->mutable_constraint(); },
                 "sampling.constraint.kind"},
        BadField{"Regex",
                 [](Request& r) { r.mutable_sampling()->mutable_constraint()->set_regex("("); },
                 "sampling.constraint.regex"},
        BadField{"NoPrompt", [](Request& r) { r.clear_prompt_ids(); }, "prompt_ids"},
        BadField{"PromptId", [](Request& r) { r.add_prompt_ids(100); }, "prompt_ids[1]"},
        BadField{"ResumedId", [](Request& r) { r.add_resumed_ids(4000000000U); }, "resumed_ids[0]"},
        BadField{"Tenant", [](Request& r) { r.set_tenant(std::string(129, 'x')); }, "tenant"},
        BadField{"Salt", [](Request& r) { r.set_cache_salt(std::string(129, 'x')); }, "cache_salt"},
        BadField{"NoSeed", [](Request& r) { r.mutable_sampling()->clear_seed(); }, "sampling.seed"},
        BadField{"ColderThanZero", [](Request& r) { r.mutable_sampling()->set_temperature(-1); },
                 "sampling.temperature"},
        BadField{"NanTemperature", [](Request& r) { r.mutable_sampling()->set_temperature(kNan); },
                 "sampling.temperature"},
        BadField{"TopK", [](Request& r) { r.mutable_sampling()->set_top_k(101); },
                 "sampling.top_k"},
        BadField{"TopPZero", [](Request& r) { r.mutable_sampling()->set_top_p(0); },
                 "sampling.top_p"},
        BadField{"TopPNan", [](Request& r) { r.mutable_sampling()->set_top_p(kNan); },
                 "sampling.top_p"},
        BadField{"MinP", [](Request& r) { r.mutable_sampling()->set_min_p(1.5F); },
                 "sampling.min_p"},
        BadField{"Repetition", [](Request& r) { r.mutable_sampling()->set_repetition_penalty(0); },
                 "sampling.repetition_penalty"},
        BadField{"Presence", [](Request& r) { r.mutable_sampling()->set_presence_penalty(2.5F); },
                 "sampling.presence_penalty"},
        BadField{"Frequency", [](Request& r) { r.mutable_sampling()->set_frequency_penalty(-3); },
                 "sampling.frequency_penalty"},
        BadField{"BiasId",
                 [](Request& r) { (*r.mutable_sampling()->mutable_logit_bias())[100] = 1; },
                 "sampling.logit_bias[100]"},
        BadField{"BiasValue",
                 [](Request& r) { (*r.mutable_sampling()->mutable_logit_bias())[1] = 101; },
                 "sampling.logit_bias[1]"},
        BadField{"Logprobs", [](Request& r) { r.mutable_sampling()->set_logprobs(21); },
                 "sampling.logprobs"},
        BadField{"StopStrings", [](Request& r) { r.mutable_stop()->add_stop_strings("x"); },
                 "stop.stop_strings"},
        BadField{"NoNewTokens", [](Request& r) { r.mutable_stop()->set_max_new_tokens(0); },
                 "stop.max_new_tokens"},
        BadField{"TooManyNewTokens", [](Request& r) { r.mutable_stop()->set_max_new_tokens(33); },
                 "stop.max_new_tokens"},
        BadField{"MinAboveMax",
                 [](Request& r) {
                   r.mutable_stop()->set_max_new_tokens(3);
                   r.mutable_stop()->set_min_new_tokens(4);
                 },
                 "stop.min_new_tokens"},
        BadField{"StopId", [](Request& r) { r.mutable_stop()->add_stop_token_ids(100); },
                 "stop.stop_token_ids[0]"},
        BadField{"StopIds",
                 [](Request& r) { r.mutable_stop()->mutable_stop_token_ids()->Resize(65, 1); },
                 "stop.stop_token_ids"},
        BadField{"ResumedBeyondMax",
                 [](Request& r) {
                   r.mutable_stop()->set_max_new_tokens(1);
                   r.add_resumed_ids(3);
                 },
                 "resumed_ids"},
        BadField{"PromptLogprobsAlone", [](Request& r) { r.set_prompt_logprobs(true); },
                 "prompt_logprobs"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ToEngineRequestTest, TooLongAPromptHasItsOwnReasonAndNumbers) {
  pb::GenerateRequest request = Minimal();
  request.mutable_prompt_ids()->Resize(30, 1);
  request.mutable_resumed_ids()->Resize(1, 1);
  EXPECT_TRUE(ToEngineRequest(request, TestServedModel()).ok());
  request.add_resumed_ids(1);
  const absl::Status status = ToEngineRequest(request, TestServedModel()).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_EQ(ReasonOf(status), "CONTEXT_LENGTH_EXCEEDED");
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(info.ParseFromString(
      std::string(*status.GetPayload("type.googleapis.com/google.rpc.ErrorInfo"))));
  EXPECT_EQ(info.metadata().at("prompt_tokens"), "30");
  EXPECT_EQ(info.metadata().at("resumed_tokens"), "2");
  EXPECT_EQ(info.metadata().at("context_tokens"), "32");
}

TEST(ToEngineRequestTest, AnotherNumericsIdIsRefusedNamingBoth) {
  pb::GenerateRequest request = Minimal();
  request.set_numerics_id("abc/bf16/v1");
  const absl::Status status = ToEngineRequest(request, TestServedModel()).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(ReasonOf(status), "NUMERICS_MISMATCH");
  EXPECT_THAT(std::string(status.message()), HasSubstr("abc/bf16/v1"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("abc/f32/v1"));
}

TEST(ToEngineRequestTest, AnEmbeddingMayFillTheContext) {
  pb::EmbedRequest request;
  EXPECT_TRUE(absl::IsInvalidArgument(ToEngineRequest(request, TestServedModel()).status()));
  request.mutable_ids()->Resize(32, 5);
  request.set_tenant("rag");
  const absl::StatusOr<EngineRequest> got = ToEngineRequest(request, TestServedModel());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->task, SequenceTask::kEmbed);
  EXPECT_EQ(got->tenant, "rag");
  request.add_ids(5);
  EXPECT_EQ(ReasonOf(ToEngineRequest(request, TestServedModel()).status()),
            "CONTEXT_LENGTH_EXCEEDED");
}

TEST(ToProtoTest, TellsHowASequenceEnded) {
  SequenceOutcome outcome;
  outcome.stop_token = 2;
  outcome.generated_tokens = 5;
  outcome.queue = std::chrono::milliseconds(1500);
  const pb::GenerateFinished stopped = ToProto(outcome);
  EXPECT_EQ(stopped.reason(), yangtuo::v1::FINISH_REASON_STOP);
  EXPECT_EQ(stopped.stop_token_id(), 2U);
  EXPECT_EQ(stopped.generated_tokens(), 5U);
  EXPECT_EQ(stopped.queue().seconds(), 1);
  EXPECT_EQ(stopped.queue().nanos(), 500'000'000);
  outcome.reason = FinishReason::kLength;
  outcome.stop_token.reset();
  EXPECT_EQ(ToProto(outcome).reason(), yangtuo::v1::FINISH_REASON_LENGTH);
  EXPECT_FALSE(ToProto(outcome).has_stop_token_id());
}

TEST(DescribeFailureTest, GivesReasonsAndRetryHints) {
  const auto described = [](absl::Status status, Acceptance acceptance) {
    return DescribeFailure(status, acceptance);
  };
  const absl::Status full = described(absl::ResourceExhaustedError("full"), Acceptance::kOpen);
  EXPECT_EQ(ReasonOf(full), "QUEUE_FULL");
  EXPECT_TRUE(full.GetPayload("type.googleapis.com/google.rpc.RetryInfo").has_value());
  EXPECT_EQ(ReasonOf(described(absl::UnavailableError("lost"), Acceptance::kOpen)), "SHARD_LOST");
  EXPECT_EQ(ReasonOf(described(absl::UnavailableError("no"), Acceptance::kDraining)), "DRAINING");
  EXPECT_TRUE(absl::IsUnavailable(described(absl::CancelledError(""), Acceptance::kDraining)));
  EXPECT_TRUE(absl::IsCancelled(described(absl::CancelledError(""), Acceptance::kOpen)));
  EXPECT_TRUE(absl::IsInternal(described(absl::InternalError("bug"), Acceptance::kOpen)));
}

}  // namespace
}  // namespace yangtuo
