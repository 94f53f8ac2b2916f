#include <gtest/gtest.h>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "inference_core/model/llama_stage.h"
#include "tests/inference_core/model/stage_driver.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

constexpr std::int32_t kLayers = 4;

LlamaConfig FourLayers() {
  LlamaConfig config = TinyLlamaConfig();
  config.layers = kLayers;
  config.hidden = 60;
  config.heads = 6;
  config.kv_heads = 3;
  config.head_dim = 20;
  config.ffn = 172;
  config.vocab = 517;
  config.context_tokens = 256;
  return config;
}

// A random mixture: short and long prompts, greedy and sampled, penalties, log-probabilities.
std::vector<DriverRequest> Mixture(std::size_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto pick = [&](std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random);
  };
  std::vector<DriverRequest> requests(count);
  for (DriverRequest& request : requests) {
    request.prompt.resize(static_cast<std::size_t>(pick(1, 100)));
    for (TokenId& id : request.prompt) {
      id = pick(0, 516);
    }
    request.new_tokens = pick(1, 12);
    request.sampling.temperature = pick(0, 2) == 0 ? 0.0F : 1.3F;
    request.sampling.top_k = pick(0, 1) * 40;
    request.sampling.repetition_penalty = pick(0, 1) == 0 ? 1.0F : 1.2F;
    request.sampling.seed = random();
    request.sampling.logprobs = pick(0, 3);
    request.prompt_logprobs = pick(0, 3) == 0;
    if (pick(0, 7) == 0) {
      request.task = SequenceTask::kEmbed;
      request.prompt_logprobs = false;
    }
  }
  return requests;
}

std::string NameOf(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return "f32";
    case WeightType::kBF16:
      return "bf16";
    case WeightType::kInt8:
      return "int8";
    case WeightType::kInt4:
      return "int4";
    case WeightType::kGguf:
      return "gguf";
    case WeightType::kAuto:
      break;
  }
  return "auto";
}

struct Types {
  WeightType weights;
  kernels::KvType kv;
};
void PrintTo(const Types& types, std::ostream* out) {
  *out << NameOf(types.weights) << "_kv_" << kernels::NameOf(types.kv);
}

class StageProperties : public ::testing::TestWithParam<Types> {
 protected:
  void SetUp() override {
    WriteTestModel({.config = FourLayers(), .dtype = DType::kF32, .seed = 3, .tokenizer = {}},
                   folder_.path());
    StageOptions options = Options();
    options.kv_blocks = 4;
    const auto stage = LoadLlamaStage(options, nullptr);
    if (stage.status().code() == absl::StatusCode::kUnimplemented) {
      GTEST_SKIP() << stage.status().message();
    }
    ASSERT_TRUE(stage.ok()) << stage.status();
  }

  [[nodiscard]] StageOptions Options() const {
    StageOptions options;
    options.model = folder_.path();
    options.weight_type = GetParam().weights;
    options.kv_type = GetParam().kv;
    options.kv_blocks = 400;
    options.max_step_tokens = 128;
    options.threads = 2;
    return options;
  }

  // The model cut before every layer in `cuts` (ascending).
  [[nodiscard]] std::unique_ptr<Stage> Load(const std::vector<std::int32_t>& cuts,
                                            std::int32_t threads) const {
    std::unique_ptr<Stage> stage;
    StageOptions options = Options();
    options.threads = threads;
    options.last_layer = kLayers;
    for (auto cut = cuts.rbegin(); cut != cuts.rend(); ++cut) {
      options.first_layer = *cut;
      auto loaded = LoadLlamaStage(options, std::move(stage));
      EXPECT_TRUE(loaded.ok()) << loaded.status();
      stage = *std::move(loaded);
      options.last_layer = *cut;
    }
    options.first_layer = 0;
    auto loaded = LoadLlamaStage(options, std::move(stage));
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *std::move(loaded);
  }

  static void ExpectSame(const std::vector<DriverAnswer>& expected,
                         const std::vector<DriverAnswer>& found, const std::string& what) {
    ASSERT_EQ(expected.size(), found.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(SameAnswer(expected[i], found[i])) << what << ", request " << i;
    }
  }

  TempDir folder_;
};

INSTANTIATE_TEST_SUITE_P(Of, StageProperties,
                         ::testing::Values(Types{WeightType::kF32, kernels::KvType::kF32},
                                           Types{WeightType::kF32, kernels::KvType::kInt8},
                                           Types{WeightType::kBF16, kernels::KvType::kBf16},
                                           Types{WeightType::kInt8, kernels::KvType::kBf16},
                                           Types{WeightType::kInt4, kernels::KvType::kInt8},
                                           Types{WeightType::kGguf, kernels::KvType::kBf16}),
                         [](const auto& test) { return ::testing::PrintToString(test.param); });

TEST_P(StageProperties, AnAnswerIsTheSameAloneAndAmongOthersHoweverStepsAreCut) {
  const std::vector<DriverRequest> requests = Mixture(40, 5);
  const std::unique_ptr<Stage> stage = Load({}, 2);
  std::vector<DriverAnswer> alone;
  for (const DriverRequest& request : requests) {
    alone.push_back(Drive(*stage, {&request, 1}, {.max_chunk = 512}).front());
  }
  ExpectSame(alone, Drive(*stage, requests, {.seed = 1, .max_chunk = 512}), "whole prompts");
  for (const std::int32_t chunk : {1, 7, 33}) {
    const DriverSchedule schedule{
        .seed = static_cast<std::uint32_t>(chunk), .max_chunk = chunk, .skip_percent = 30};
    ExpectSame(alone, Drive(*stage, requests, schedule), "chunks of " + std::to_string(chunk));
  }
}

TEST_P(StageProperties, AnAnswerIsTheSameAfterPreemption) {
  const std::vector<DriverRequest> requests = Mixture(24, 6);
  const std::unique_ptr<Stage> stage = Load({}, 2);
  ExpectSame(Drive(*stage, requests, {.seed = 2}),
             Drive(*stage, requests, {.seed = 3, .max_chunk = 20, .preempt_percent = 15}),
             "preempted");
}

TEST_P(StageProperties, AnyNumberOfThreadsGivesTheSameBits) {
  // Wide enough that products and attention of a prompt are shared among threads.
  LlamaConfig config = FourLayers();
  config.layers = 2;
  config.hidden = 256;
  config.ffn = 768;
  WriteTestModel({.config = config, .dtype = DType::kF32, .seed = 4, .tokenizer = {}},
                 folder_.path());
  StageOptions options = Options();
  std::vector<std::vector<DriverAnswer>> answers;
  for (const std::int32_t threads : {1, 2, 3}) {
    options.threads = threads;
    const auto stage = LoadLlamaStage(options, nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    answers.push_back(Drive(**stage, Mixture(10, 8), {.seed = 4, .max_chunk = 512}));
  }
  ExpectSame(answers[0], answers[1], "two threads");
  ExpectSame(answers[0], answers[2], "three threads");
}

TEST_P(StageProperties, EveryInstructionSetGivesIntegerTypesTheSameTokens) {
  if (GetParam().weights == WeightType::kF32 || GetParam().weights == WeightType::kBF16) {
    GTEST_SKIP() << "oneDNN's sums differ";
  }
  StageOptions options = Options();
  std::vector<std::vector<DriverAnswer>> answers;
  for (const kernels::IntegerPath path :
       {kernels::IntegerPath::kPortable, kernels::IntegerPath::kAvx2,
        kernels::IntegerPath::kAvxVnni, kernels::IntegerPath::kAvx512Vnni}) {
    if (kernels::KernelsOf(path) == nullptr) {
      continue;
    }
    options.integer_path = path;
    const auto stage = LoadLlamaStage(options, nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    answers.push_back(Drive(**stage, Mixture(10, 9), {.seed = 5, .max_chunk = 64}));
    ExpectSame(answers.front(), answers.back(), "another instruction set");
  }
}

TEST_P(StageProperties, EveryPipelineCutGivesTheSameBits) {
  const std::vector<DriverRequest> requests = Mixture(12, 7);
  const std::vector<DriverAnswer> whole = Drive(*Load({}, 2), requests, {.max_chunk = 50});
  // Every subset of the three places to cut.
  for (unsigned mask = 1; mask < 8; ++mask) {
    std::vector<std::int32_t> cuts;
    for (std::int32_t layer = 1; layer < kLayers; ++layer) {
      if ((mask >> static_cast<unsigned>(layer - 1) & 1U) != 0) {
        cuts.push_back(layer);
      }
    }
    const std::unique_ptr<Stage> stage = Load(cuts, mask % 2 == 0 ? 2 : 1);
    EXPECT_EQ(stage->info().depth, static_cast<std::int32_t>(cuts.size()) + 1);
    ExpectSame(whole, Drive(*stage, requests, {.seed = mask, .max_chunk = 50}),
               "cut " + std::to_string(mask));
  }
}

TEST_P(StageProperties, BatchesInFlightAnswerInOrder) {
  const std::unique_ptr<Stage> stage = Load({2}, 2);
  for (std::uint64_t i = 1; i <= 3; ++i) {
    Step step;
    step.id = i;
    SequenceOpen open;
    open.id = i;
    open.prompt_ids = {static_cast<TokenId>(i)};
    step.opens.push_back(open);
    step.rows.push_back({.id = i,
                         .first_position = 0,
                         .token_ids = open.prompt_ids,
                         .kv_blocks = {static_cast<std::int32_t>(i)},
                         .want_output = true});
    ASSERT_TRUE(stage->Submit(step).ok());
  }
  for (std::uint64_t i = 1; i <= 3; ++i) {
    const auto result = stage->Next();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->id, i);
    ASSERT_EQ(result->samples.size(), 1U);
    EXPECT_EQ(result->samples[0].id, i);
    EXPECT_GT(result->compute.count(), 0);
  }
  EXPECT_EQ(stage->Next().status().code(), absl::StatusCode::kFailedPrecondition);
}

}  // namespace
}  // namespace yangtuo
