#include "services/inference/shard_codec.h"

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

namespace pb = internal::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

StageInfo TestStage() {
  StageInfo info;
  info.first_layer = 2;
  info.num_layers = 4;
  info.hidden = 2;
  info.vocab = 100;
  info.context_tokens = 64;
  info.kv_block_size = 4;
  info.kv_blocks = 8;
  info.max_step_tokens = 16;
  return info;
}

SampledToken Token(TokenId id, float logprob = 0) {
  return {.id = id, .logprob = logprob, .top = {}};
}

// Every field away from its default.
Step FullStep() {
  SequenceOpen open;
  open.id = 7;
  open.task = SequenceTask::kEmbed;
  open.prompt_ids = {1, 2, 3};
  open.emitted_ids = {4};
  open.prompt_logprobs = true;
  open.sampling = {.temperature = 0.5F,
                   .top_k = 9,
                   .top_p = 0.75F,
                   .min_p = 0.125F,
                   .repetition_penalty = 1.5F,
                   .presence_penalty = -0.5F,
                   .frequency_penalty = 0.25F,
                   .logit_bias = {{5, -1.5F}, {6, 2.0F}},
                   .seed = 0xFFFFFFFFFFFFFFFFU,
                   .choice = 3,
                   .logprobs = 0,
                   .min_new_tokens = 4,
                   .end_ids = {2, 99}};
  open.constraint = {.kind = GrammarKind::kChoice, .text = "none", .choices = {"yes", "no"}};
  Step step;
  step.id = 11;
  step.opens = {open};
  step.closes = {5, 6};
  step.rows = {{.id = 7,
                .first_position = 4,
                .token_ids = {10, 11},
                .kv_blocks = {3, 7},
                .want_output = true},
               {.id = 8, .first_position = 0, .token_ids = {12}, .kv_blocks = {0}}};
  step.hidden = {1.0F, -2.0F, 0.1F, std::numeric_limits<float>::denorm_min(), -0.0F, 6.0F};
  return step;
}

TEST(ShardCodecTest, AStepSurvivesTheWireUnchanged) {
  const Step sent = FullStep();
  pb::StepRequest wire;
  ASSERT_TRUE(wire.ParseFromString(EncodeStep(sent).SerializeAsString()));
  const absl::StatusOr<Step> got = DecodeStep(wire, TestStage());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->id, sent.id);
  EXPECT_EQ(got->closes, sent.closes);
  EXPECT_EQ(got->hidden, sent.hidden);
  ASSERT_THAT(got->opens, SizeIs(1));
  const SequenceOpen& open = got->opens[0];
  EXPECT_EQ(open.id, 7U);
  EXPECT_EQ(open.task, SequenceTask::kEmbed);
  EXPECT_EQ(open.prompt_ids, sent.opens[0].prompt_ids);
  EXPECT_EQ(open.emitted_ids, sent.opens[0].emitted_ids);
  EXPECT_TRUE(open.prompt_logprobs);
  const SamplingParams& s = open.sampling;
  const SamplingParams& expected = sent.opens[0].sampling;
  EXPECT_EQ(s.temperature, expected.temperature);
  EXPECT_EQ(s.top_k, expected.top_k);
  EXPECT_EQ(s.top_p, expected.top_p);
  EXPECT_EQ(s.min_p, expected.min_p);
  EXPECT_EQ(s.repetition_penalty, expected.repetition_penalty);
  EXPECT_EQ(s.presence_penalty, expected.presence_penalty);
  EXPECT_EQ(s.frequency_penalty, expected.frequency_penalty);
  EXPECT_EQ(s.logit_bias, expected.logit_bias);
  EXPECT_EQ(s.seed, expected.seed);
  EXPECT_EQ(s.choice, expected.choice);
  EXPECT_EQ(s.logprobs, expected.logprobs);
  EXPECT_EQ(s.min_new_tokens, expected.min_new_tokens);
  EXPECT_EQ(s.end_ids, expected.end_ids);
  EXPECT_EQ(open.constraint, sent.opens[0].constraint);
  ASSERT_THAT(got->rows, SizeIs(2));
  EXPECT_EQ(got->rows[0].first_position, 4);
  EXPECT_THAT(got->rows[0].token_ids, ElementsAre(10, 11));
  EXPECT_THAT(got->rows[0].kv_blocks, ElementsAre(3, 7));
  EXPECT_TRUE(got->rows[0].want_output);
  EXPECT_FALSE(got->rows[1].want_output);
}

TEST(ShardCodecTest, AResultSurvivesTheWireUnchanged) {
  StepResult sent;
  sent.id = 3;
  sent.samples = {{7, {.id = 42, .logprob = -0.5F, .top = {{42, -0.5F}, {1, -2.5F}}}},
                  {8, Token(9)}};
  sent.prompt_logprobs = {{.id = 7, .first_position = 1, .entries = {Token(5, -1.0F)}}};
  sent.embeddings = {{.id = 9, .values = {0.6F, 0.8F}}};
  sent.failures = {{.id = 4, .status = absl::InternalError("not a number")}};
  sent.compute = std::chrono::microseconds(1234);
  const absl::StatusOr<StepResult> got = DecodeStepResult(EncodeStepResult(sent), TestStage());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->id, 3U);
  ASSERT_THAT(got->samples, SizeIs(2));
  EXPECT_EQ(got->samples[0].id, 7U);
  EXPECT_EQ(got->samples[0].token.id, 42);
  EXPECT_EQ(got->samples[0].token.logprob, -0.5F);
  ASSERT_THAT(got->samples[0].token.top, SizeIs(2));
  EXPECT_EQ(got->samples[0].token.top[1].id, 1);
  EXPECT_EQ(got->samples[0].token.top[1].logprob, -2.5F);
  EXPECT_EQ(got->prompt_logprobs[0].first_position, 1);
  EXPECT_EQ(got->prompt_logprobs[0].entries[0].id, 5);
  EXPECT_THAT(got->embeddings[0].values, ElementsAre(0.6F, 0.8F));
  ASSERT_THAT(got->failures, SizeIs(1));
  EXPECT_EQ(got->failures[0].id, 4U);
  EXPECT_EQ(got->failures[0].status, absl::InternalError("not a number"));
  EXPECT_EQ(got->compute, std::chrono::microseconds(1234));
}

TEST(ShardCodecTest, AShardsErrorArrivesWithCodeAndWords) {
  const absl::StatusOr<StepResult> got =
      DecodeStepResult(EncodeStepError(5, absl::InternalError("NaN in layer 3")), TestStage());
  EXPECT_EQ(got.status(), absl::InternalError("NaN in layer 3"));
}

TEST(ShardCodecTest, ResultsThatNoShardCanHaveSentAreDataLoss) {
  StepResult token;
  token.samples = {{1, Token(100)}};
  StepResult top;
  top.samples = {{1, {.id = 1, .logprob = 0, .top = {{100, 0}}}}};
  StepResult prompt;
  prompt.prompt_logprobs = {{.id = 1, .first_position = 64, .entries = {Token(1)}}};
  StepResult embedding;
  embedding.embeddings = {{.id = 1, .values = {1.0F}}};
  StepResult failure;
  failure.failures = {{.id = 1, .status = absl::OkStatus()}};
  for (const StepResult& result : {token, top, prompt, embedding, failure}) {
    EXPECT_TRUE(absl::IsDataLoss(DecodeStepResult(EncodeStepResult(result), TestStage()).status()));
  }
}

struct BadStep {
  const char* name;
  std::function<void(pb::StepRequest&)> spoil;
  const char* words;
};

class RefusedStepTest : public ::testing::TestWithParam<BadStep> {};

TEST_P(RefusedStepTest, NamesStepAndBound) {
  pb::StepRequest wire = EncodeStep(FullStep());
  GetParam().spoil(wire);
  const absl::StatusOr<Step> got = DecodeStep(wire, TestStage());
  EXPECT_TRUE(absl::IsInvalidArgument(got.status())) << got.status();
  EXPECT_THAT(std::string(got.status().message()), HasSubstr("step 11: "));
  EXPECT_THAT(std::string(got.status().message()), HasSubstr(GetParam().words));
}

INSTANTIATE_TEST_SUITE_P(
    All, RefusedStepTest,
    ::testing::Values(
        BadStep{"TokenOutsideVocabulary",
                [](pb::StepRequest& s) { s.mutable_rows(0)->set_token_ids(0, 100); },
                "token id 100 outside the vocabulary of 100"},
        BadStep{"BlockOutsideCache",
                [](pb::StepRequest& s) { s.mutable_rows(0)->set_kv_blocks(1, 8); },
                "KV block 8, this shard has 8"},
        BadStep{"TooFewBlocks",
                [](pb::StepRequest& s) { s.mutable_rows(0)->mutable_kv_blocks()->RemoveLast(); },
                "1 KV blocks for 6 positions, expected 2"},
        BadStep{"NoRows", [](pb::StepRequest& s) { s.mutable_rows(1)->clear_token_ids(); },
                "a sequence has 1 to 64 positions"},
        BadStep{"PositionBeyondContext",
                [](pb::StepRequest& s) { s.mutable_rows(0)->set_first_position(0xFFFFFFFFU); },
                "a sequence has 1 to 64 positions"},
        BadStep{"SequenceTwice", [](pb::StepRequest& s) { s.mutable_rows(1)->set_sequence(7); },
                "sequence 7 twice"},
        BadStep{"HiddenCut", [](pb::StepRequest& s) { s.mutable_hidden()->pop_back(); },
                "hidden states of 23 bytes, expected 3 rows of 2 floats"},
        BadStep{"TooManyRows",
                [](pb::StepRequest& s) {
                  for (int i = 0; i < 16; ++i) {
                    s.mutable_rows(1)->add_token_ids(1);
                  }
                  s.mutable_rows(1)->mutable_kv_blocks()->Resize(5, 0);
                },
                "19 rows, this shard takes 16"},
        BadStep{"UnknownTask", [](pb::StepRequest& s) { s.mutable_opens(0)->set_task(3); },
                "task 3"},
        BadStep{"BiasWithoutValue", [](pb::StepRequest& s) { s.mutable_opens(0)->add_bias_ids(1); },
                "3 bias ids with 2 values"},
        BadStep{"NotFinite",
                [](pb::StepRequest& s) {
                  s.mutable_opens(0)->set_top_p(std::numeric_limits<float>::quiet_NaN());
                },
                "not finite"},
        BadStep{"PromptBeyondContext",
                [](pb::StepRequest& s) { s.mutable_opens(0)->mutable_prompt_ids()->Resize(64, 1); },
                "64 prompt and 1 answer ids exceed 64"}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace yangtuo
