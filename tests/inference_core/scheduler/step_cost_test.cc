#include "inference_core/scheduler/step_cost.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

TEST(PromptRowsWithinTest, FillsTheTimeThatDecodingLeaves) {
  const StepCost cost{.decode_step = 0.1, .prompt_row = 0.002};
  EXPECT_EQ(PromptRowsWithin(0.2, cost, 16, 256), 50);
  EXPECT_EQ(PromptRowsWithin(0.2, cost, 16, 40), 40) << "no more than a step takes";
}

TEST(PromptRowsWithinTest, PromptsAdvanceEvenWhenDecodingAloneTakesTheTime) {
  EXPECT_EQ(PromptRowsWithin(0.2, {.decode_step = 0.5, .prompt_row = 0.002}, 16, 256), 16);
  EXPECT_EQ(PromptRowsWithin(0.2, {.decode_step = 0.5, .prompt_row = 0.002}, 16, 8), 8);
}

TEST(PromptRowsWithinTest, TakesLittleWhileNothingIsKnown) {
  EXPECT_EQ(PromptRowsWithin(0.2, {}, 16, 256), 16);
}

TEST(PromptRowsWithinTest, TinyCostsDoNotOverflow) {
  EXPECT_EQ(PromptRowsWithin(60.0, {.decode_step = 0.0, .prompt_row = 1e-12}, 16, 256), 256);
}

TEST(ObserveTest, StepsWithoutPromptsTellWhatDecodingCosts) {
  const StepCost once = Observe({}, 3, 0, 0.1);
  EXPECT_DOUBLE_EQ(once.decode_step, 0.1);
  EXPECT_DOUBLE_EQ(once.prompt_row, 0.0);
  EXPECT_DOUBLE_EQ(Observe(once, 3, 0, 0.2).decode_step, 0.125);
}

TEST(ObserveTest, PromptRowsCostWhatTheyAddToAStep) {
  const StepCost cost{.decode_step = 0.1, .prompt_row = 0.0};
  EXPECT_DOUBLE_EQ(Observe(cost, 3, 50, 0.2).prompt_row, 0.002);
  EXPECT_DOUBLE_EQ(Observe(cost, 3, 50, 0.05).prompt_row, 0.00025) << "a quarter of its share";
  EXPECT_DOUBLE_EQ(Observe(cost, 3, 50, 0.2).decode_step, 0.1);
}

TEST(ObserveTest, StepWithPromptRowsBoundsWhatDecodingCosts) {
  const StepCost cost{.decode_step = 0.5, .prompt_row = 0.002};
  EXPECT_DOUBLE_EQ(Observe(cost, 3, 16, 0.1).decode_step, 0.1);
  EXPECT_DOUBLE_EQ(Observe(cost, 3, 16, 0.6).decode_step, 0.5);
  EXPECT_DOUBLE_EQ(Observe(cost, 0, 16, 0.1).decode_step, 0.5) << "nobody decoded";
  EXPECT_DOUBLE_EQ(Observe({}, 3, 16, 0.1).decode_step, 0.0) << "not seen yet";
}

// Decoding was dear once, for long sequences or beside another program, and since then every step
// has had prompt rows.
TEST(StepCostTest, PromptsGetTheirShareAgainWithoutAStepOfDecodingAlone) {
  StepCost cost{.decode_step = 1.0, .prompt_row = 0.001};
  for (int step = 0; step < 30; ++step) {
    const std::int32_t rows = PromptRowsWithin(0.2, cost, 16, 512);
    cost = Observe(cost, 4, rows, 0.05 + 0.001 * rows);
  }
  EXPECT_NEAR(PromptRowsWithin(0.2, cost, 16, 512), 150, 15);
}

// A machine on which a step costs a + b per decode row + c per prompt row, with noise. Chunks
// chosen from what was observed keep nearly every step within the target, after the first few, as
// soon as the target can be kept at all; and always the bound of PromptRowsWithin.
TEST(StepCostTest, StepsStayWithinTheTargetOnMachinesOfAllSpeeds) {
  std::mt19937 random(1);
  const auto between = [&](double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(random);
  };
  for (int machine = 0; machine < 200; ++machine) {
    const double base = between(0.0, 0.15);
    const double decode_row = between(0.0, 0.002);
    const double prompt_row = between(0.0001, 0.01);
    const double target = 0.2;
    StepCost cost;
    for (int step = 0; step < 300; ++step) {
      const std::int32_t decoding = 4 + step / 100;
      // Now and then there is no prompt.
      const std::int32_t rows = step % 10 < 2 ? 0 : PromptRowsWithin(target, cost, 16, 512);
      const double exact = base + decode_row * decoding + prompt_row * rows;
      const double least = base + decode_row * decoding + prompt_row * 16;
      if (step > 20) {
        EXPECT_LE(exact, 1.25 * std::max(target, least)) << "machine " << machine;
        if (rows > 0 && rows < 512 && least < 0.9 * target) {
          EXPECT_GE(exact, 0.6 * target) << "time for prompts is not used";
        }
      }
      cost = Observe(cost, decoding, rows, exact * between(0.9, 1.1));
    }
  }
}

}  // namespace
}  // namespace yangtuo
