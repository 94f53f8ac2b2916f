#include <cmath>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "inference_core/model/llama_stage.h"
#include "tests/inference_core/model/stage_driver.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

StageOptions TinyOptions(const std::filesystem::path& folder) {
  StageOptions options;
  options.model = folder;
  options.weight_type = WeightType::kF32;
  options.kv_blocks = 8;
  options.max_step_tokens = 64;
  options.threads = 1;
  return options;
}

// Opens sequence 1 with three tokens and computes all of them.
Step GoodStep() {
  Step step;
  step.id = 1;
  SequenceOpen open;
  open.id = 1;
  open.prompt_ids = {1, 2, 3};
  step.opens.push_back(open);
  step.rows.push_back({.id = 1,
                       .first_position = 0,
                       .token_ids = {1, 2, 3},
                       .kv_blocks = {0},
                       .want_output = true});
  return step;
}

struct Fault {
  const char* name;
  std::function<void(Step&)> spoil;
  const char* message;
};
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class MalformedSteps : public ::testing::TestWithParam<Fault> {};

INSTANTIATE_TEST_SUITE_P(
    Are, MalformedSteps,
    ::testing::Values(
        Fault{"BlockTooLarge", [](Step& s) { s.rows[0].kv_blocks = {8}; }, "KV block 8"},
        Fault{"BlockNegative", [](Step& s) { s.rows[0].kv_blocks = {-1}; }, "KV block -1"},
        Fault{"TooFewBlocks", [](Step& s) { s.rows[0].kv_blocks = {}; }, "need 1 KV blocks"},
        Fault{"NoRows", [](Step& s) { s.rows[0].token_ids = {}; }, "at least one row"},
        Fault{"NegativePosition", [](Step& s) { s.rows[0].first_position = -1; }, "positions [-1"},
        Fault{"BeyondTheContext", [](Step& s) { s.rows[0].first_position = 126; }, "[0, 128)"},
        Fault{"HugePosition", [](Step& s) { s.rows[0].first_position = 2147483647; }, "positions"},
        Fault{"TokenOutsideTheVocabulary", [](Step& s) { s.rows[0].token_ids[1] = 64; },
              "token id 64"},
        Fault{"NegativeToken", [](Step& s) { s.rows[0].token_ids[1] = -1; }, "token id -1"},
        Fault{"PromptOutsideTheVocabulary", [](Step& s) { s.opens[0].prompt_ids[0] = 64; },
              "prompt id 64"},
        Fault{"AnswerOutsideTheVocabulary", [](Step& s) { s.opens[0].emitted_ids = {99}; },
              "answer id 99"},
        Fault{"BiasOutsideTheVocabulary",
              [](Step& s) {
                s.opens[0].sampling.logit_bias = {{70, 1.0F}};
              },
              "bias id 70"},
        Fault{"EndOutsideTheVocabulary", [](Step& s) { s.opens[0].sampling.end_ids = {-2}; },
              "end id -2"},
        Fault{"EmptyPrompt", [](Step& s) { s.opens[0].prompt_ids = {}; }, "0 prompt"},
        Fault{"TemperatureNotANumber", [](Step& s) { s.opens[0].sampling.temperature = NAN; },
              "temperature nan"},
        Fault{"TooManyLogprobs", [](Step& s) { s.opens[0].sampling.logprobs = 65; }, "65"},
        Fault{"HiddenAtTheFirstStage", [](Step& s) { s.hidden.resize(96); }, "96 hidden values"},
        Fault{"SequenceTwice", [](Step& s) { s.rows.push_back(s.rows[0]); }, "appears twice"},
        Fault{"UnknownSequence", [](Step& s) { s.opens.clear(); }, "which is not open"},
        Fault{"ClosedSequence", [](Step& s) { s.closes = {1}; }, "which is not open"},
        Fault{"OutputBeforeTheEnd",
              [](Step& s) {
                s.rows[0].token_ids = {1, 2};
              },
              "has 3 tokens, rows of step 1 end"},
        Fault{"RowsBeyondTheTokens",
              [](Step& s) {
                s.rows[0].token_ids = {1, 2, 3, 4};
                s.rows[0].want_output = false;
              },
              "end at 4"},
        Fault{"EmbeddingWithAGap",
              [](Step& s) {
                s.opens[0].task = SequenceTask::kEmbed;
                s.rows[0].first_position = 1;
              },
              "in order"},
        Fault{"TooManyRows",
              [](Step& s) {
                s.rows[0].token_ids.assign(65, 1);
                s.rows[0].kv_blocks = {0, 1, 2};
              },
              "at most 64"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_P(MalformedSteps, AreRefusedAndChangeNothing) {
  const TempDir folder;
  WriteTestModel({.config = TinyLlamaConfig(), .tokenizer = {}}, folder.path());
  const auto stage = LoadLlamaStage(TinyOptions(folder.path()), nullptr);
  ASSERT_TRUE(stage.ok()) << stage.status();
  Step bad = GoodStep();
  GetParam().spoil(bad);

  const absl::Status refused = (*stage)->Submit(bad);

  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr(GetParam().message));
  EXPECT_EQ((*stage)->Next().status().code(), absl::StatusCode::kFailedPrecondition);
  ASSERT_TRUE((*stage)->Submit(GoodStep()).ok());
  EXPECT_TRUE((*stage)->Next().ok());
}

class LoadedStage : public ::testing::Test {
 protected:
  void SetUp() override {
    WriteTestModel({.config = TinyLlamaConfig(), .tokenizer = {}}, folder_.path());
  }
  TempDir folder_;
};

TEST_F(LoadedStage, ALaterShardRefusesHiddenStatesOfAnotherSize) {
  StageOptions options = TinyOptions(folder_.path());
  options.first_layer = 1;
  const auto stage = LoadLlamaStage(options, nullptr);
  ASSERT_TRUE(stage.ok()) << stage.status();
  Step step = GoodStep();
  EXPECT_EQ((*stage)->Submit(step).code(), absl::StatusCode::kInvalidArgument);
  step.hidden.resize(3 * 32, 0.5F);
  EXPECT_TRUE((*stage)->Submit(step).ok());
}

// A later shard's step, of which sequence 1 has hidden states that are not numbers and sequence 2
// has good ones.
class BrokenHiddenStates : public LoadedStage {
 protected:
  static Step StepOfTwo() {
    Step step = GoodStep();
    step.opens.push_back(step.opens[0]);
    step.opens[1].id = 2;
    step.rows.push_back(step.rows[0]);
    step.rows[1].id = 2;
    step.rows[1].kv_blocks = {1};
    step.hidden.assign(3 * 32, std::numeric_limits<float>::quiet_NaN());
    step.hidden.resize(6 * 32, 0.25F);
    return step;
  }

  StepResult Answer(const Step& step) {
    StageOptions options = TinyOptions(folder_.path());
    options.first_layer = 1;
    const auto stage = LoadLlamaStage(options, nullptr);
    EXPECT_TRUE(stage.ok()) << stage.status();
    EXPECT_TRUE((*stage)->Submit(step).ok());
    absl::StatusOr<StepResult> result = (*stage)->Next();
    EXPECT_TRUE(result.ok()) << result.status();
    return *std::move(result);
  }

  static void ExpectThatOneFailed(const StepResult& result) {
    ASSERT_EQ(result.failures.size(), 1U);
    EXPECT_EQ(result.failures[0].id, 1U);
    EXPECT_EQ(result.failures[0].status.code(), absl::StatusCode::kInternal);
    EXPECT_THAT(std::string(result.failures[0].status.message()), HasSubstr("not finite numbers"));
  }
};

TEST_F(BrokenHiddenStates, FailTheirSequenceAndNoOther) {
  const StepResult result = Answer(StepOfTwo());
  ExpectThatOneFailed(result);
  ASSERT_EQ(result.samples.size(), 1U);
  EXPECT_EQ(result.samples[0].id, 2U);
}

TEST_F(BrokenHiddenStates, GiveNoEmbedding) {
  Step step = StepOfTwo();
  for (SequenceOpen& open : step.opens) {
    open.task = SequenceTask::kEmbed;
  }
  const StepResult result = Answer(step);
  ExpectThatOneFailed(result);
  ASSERT_EQ(result.embeddings.size(), 1U);
  EXPECT_EQ(result.embeddings[0].id, 2U);
}

TEST_F(BrokenHiddenStates, GiveLogprobsOfThePromptThatNobodyTakesForNumbers) {
  Step step = StepOfTwo();
  step.opens[0].prompt_logprobs = true;
  step.opens[1].prompt_logprobs = true;
  const StepResult result = Answer(step);
  ExpectThatOneFailed(result);
  ASSERT_EQ(result.prompt_logprobs.size(), 2U);
  EXPECT_TRUE(std::isnan(result.prompt_logprobs[0].entries[0].logprob));
  EXPECT_TRUE(std::isfinite(result.prompt_logprobs[1].entries[0].logprob));
}

TEST_F(LoadedStage, ResetForgetsSequencesAndOutstandingSteps) {
  const auto stage = LoadLlamaStage(TinyOptions(folder_.path()), nullptr);
  ASSERT_TRUE(stage.ok());
  ASSERT_TRUE((*stage)->Submit(GoodStep()).ok());
  ASSERT_TRUE((*stage)->Reset().ok());
  EXPECT_EQ((*stage)->Next().status().code(), absl::StatusCode::kFailedPrecondition);
  Step step = GoodStep();
  step.opens.clear();
  EXPECT_EQ((*stage)->Submit(step).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(LoadedStage, AnswersAStepWithoutRows) {
  const auto stage = LoadLlamaStage(TinyOptions(folder_.path()), nullptr);
  ASSERT_TRUE(stage.ok());
  Step step;
  step.id = 9;
  step.closes = {4};
  ASSERT_TRUE((*stage)->Submit(step).ok());
  const auto result = (*stage)->Next();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->id, 9U);
  EXPECT_TRUE(result->samples.empty());
}

TEST_F(LoadedStage, PromptLogprobsAreThoseOfSampledTokensAtTheSamePlaces) {
  const auto stage = LoadLlamaStage(TinyOptions(folder_.path()), nullptr);
  ASSERT_TRUE(stage.ok());
  DriverRequest request;
  request.prompt = {5, 6, 7};
  request.new_tokens = 6;
  request.sampling.logprobs = 2;
  const DriverAnswer sampled = Drive(**stage, {&request, 1}, {}).front();
  // The same tokens as a prompt.
  DriverRequest given = request;
  for (const SampledToken& token : sampled.tokens) {
    given.prompt.push_back(token.id);
  }
  given.new_tokens = 1;
  given.prompt_logprobs = true;
  const DriverAnswer scored = Drive(**stage, {&given, 1}, {.max_chunk = 2}).front();

  ASSERT_EQ(scored.prompt_logprobs.size(), given.prompt.size() - 1);
  for (std::size_t i = 0; i < sampled.tokens.size(); ++i) {
    const SampledToken& entry = scored.prompt_logprobs[i + 2];
    EXPECT_EQ(entry.id, sampled.tokens[i].id);
    EXPECT_EQ(entry.logprob, sampled.tokens[i].logprob);
    ASSERT_EQ(entry.top.size(), 2U);
    EXPECT_EQ(entry.top[0].id, sampled.tokens[i].top[0].id);
  }
}

TEST_F(LoadedStage, EmbedsToUnitLength) {
  const auto stage = LoadLlamaStage(TinyOptions(folder_.path()), nullptr);
  ASSERT_TRUE(stage.ok());
  DriverRequest request;
  request.task = SequenceTask::kEmbed;
  request.prompt = {9, 8, 7, 6, 5};
  const DriverAnswer answer = Drive(**stage, {&request, 1}, {.max_chunk = 2}).front();
  ASSERT_EQ(answer.embedding.size(), 32U);
  double squares = 0.0;
  for (const float value : answer.embedding) {
    squares += static_cast<double>(value) * static_cast<double>(value);
  }
  EXPECT_NEAR(squares, 1.0, 1e-6);
}

}  // namespace
}  // namespace yangtuo
