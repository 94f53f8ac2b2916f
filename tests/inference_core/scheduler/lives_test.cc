#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/kv_cache/block_pool.h"
#include "inference_core/scheduler/scheduler.h"

namespace yangtuo {
namespace {

// The longest that a sequence gets.
constexpr std::int32_t kLongest = 40;

struct Life {
  ScheduledSequence state;
  std::int32_t arrival = 0;     // the round
  std::int32_t end = 0;         // known tokens at which it is over
  std::vector<BlockKey> chain;  // of all blocks that it ever fills
  std::unique_ptr<SequenceBlocks> blocks;
  bool running = false;
};

// Carries plans out as an engine with `depth` steps in flight does, without tokens: blocks are
// taken, published, found and given up. Checks every plan against the limits and the pool.
class Simulation {
 public:
  explicit Simulation(std::uint32_t seed)
      : random_(seed),
        limits_({.step_tokens = Between(1, 40),
                 .prompt_chunk = Between(0, 1) * Between(0, 6),
                 .prompt_tokens = Between(1, 40),
                 .prompt_reserve = 0,
                 .max_running = 1,
                 .depth = Between(1, 4),
                 .block_size = Between(1, 5),
                 .free_blocks = 0}),
        // The longest sequence just fits, or three of them.
        pool_(CeilDivide(kLongest * Between(1, 3), limits_.block_size), limits_.block_size) {
    limits_.prompt_reserve = Between(0, limits_.step_tokens - 1);
    limits_.max_running =
        Between(1, (limits_.step_tokens - limits_.prompt_reserve) * limits_.depth);
    for (std::uint64_t id = 1; id <= 12; ++id) {
      const std::int32_t prompt = Between(1, kLongest - 5);
      Life& life = lives_[id];
      life.state = {.id = id,
                    .priority = Between(-1, 1),
                    .known_tokens = prompt,
                    .tenant = static_cast<std::uint32_t>(Between(0, 2)),
                    .tenant_served = static_cast<double>(Between(0, 30))};
      life.arrival = Between(0, 20);
      life.end = std::min(prompt + Between(1, kLongest / 2), kLongest);
      // Begins as others of its family do, for a while.
      const auto family = static_cast<std::uint64_t>(Between(100, 102));
      const std::int32_t common = Between(0, prompt / limits_.block_size);
      for (std::int32_t block = 0; block < life.end / limits_.block_size; ++block) {
        life.chain.push_back(Key(block < common ? family : id, block));
      }
      life.blocks = std::make_unique<SequenceBlocks>(pool_);
    }
  }

  [[nodiscard]] bool over() const { return lives_.empty(); }
  [[nodiscard]] std::int64_t found() const { return found_; }

  // Fills the pipeline, then takes the oldest result.
  void Round() {
    while (static_cast<std::int32_t>(in_flight_.size()) < limits_.depth && Submit()) {
    }
    const bool nobody = std::none_of(lives_.begin(), lives_.end(),
                                     [this](const auto& entry) { return IsHere(entry.second); });
    ++round_;
    if (!nobody) {
      ASSERT_FALSE(in_flight_.empty()) << "nothing runs and nothing can start";
      TakeResult();
    }
  }

 private:
  struct Part {
    std::uint64_t id;
    bool gives_token;
  };

  [[nodiscard]] bool IsHere(const Life& life) const { return life.arrival <= round_; }
  static std::int32_t CeilDivide(std::int32_t a, std::int32_t b) { return (a + b - 1) / b; }
  std::int32_t Between(std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random_);
  }
  static BlockKey Key(std::uint64_t who, std::int32_t block) {
    BlockKey key{};
    const std::uint64_t name = 1000 * who + static_cast<std::uint64_t>(block);
    std::memcpy(key.data(), &name, sizeof(name));
    return key;
  }
  static std::uint64_t NameOf(const BlockKey& key) {
    std::uint64_t name = 0;
    std::memcpy(&name, key.data(), sizeof(name));
    return name;
  }

  // Of blocks full of known tokens, one token less where one must be left to compute.
  std::span<const BlockKey> Keys(const Life& life, std::int32_t left) const {
    const std::int32_t blocks = (life.state.known_tokens - left) / limits_.block_size;
    return std::span(life.chain).first(static_cast<std::size_t>(blocks));
  }

  Reusable FindReusable(std::uint64_t id, std::span<const std::uint64_t> preempted) const {
    std::vector<const SequenceBlocks*> without;
    for (const std::uint64_t victim : preempted) {
      without.push_back(lives_.at(victim).blocks.get());
    }
    const std::span<const BlockKey> keys = Keys(lives_.at(id), 1);
    const BlockPool::Found found = pool_.Find(keys, without);
    const auto next = static_cast<std::size_t>(found.blocks);
    return {.tokens = found.blocks * limits_.block_size,
            .free_blocks = found.unheld,
            .next_block = next < keys.size() ? NameOf(keys[next]) : 0};
  }

  ScheduledSequence Describe(const Life& life) const {
    ScheduledSequence state = life.state;
    state.blocks = life.blocks->size();
    state.shared_blocks = life.blocks->num_shared();
    const auto next = static_cast<std::size_t>(state.computed_tokens / limits_.block_size);
    const std::span<const BlockKey> keys = Keys(life, 0);
    state.next_block = life.running && next < keys.size() ? NameOf(keys[next]) : 0;
    return state;
  }

  // False when there is nothing to do before a result comes.
  bool Submit() {
    PlanInput input{.running = {},
                    .waiting = {},
                    .limits = limits_,
                    .find_reusable = [this](std::uint64_t id, std::span<const std::uint64_t> ids) {
                      return FindReusable(id, ids);
                    }};
    input.limits.free_blocks = pool_.num_free();
    for (const auto& [id, life] : lives_) {
      if (IsHere(life)) {
        (life.running ? input.running : input.waiting).push_back(Describe(life));
      }
    }
    std::shuffle(input.running.begin(), input.running.end(), random_);
    std::shuffle(input.waiting.begin(), input.waiting.end(), random_);
    const PlanInput before = input;
    StepPlan plan;
    PlanNextStep(input, plan);
    for (const std::uint64_t id : plan.preempt) {
      Preempt(id, before);
    }
    for (const PlannedRows& planned : plan.prompt) {
      Begin(lives_.at(planned.id));
    }
    std::int32_t rows = 0;
    std::vector<Part> parts;
    for (const auto* list : {&plan.decode, &plan.prompt}) {
      for (const PlannedRows& planned : *list) {
        rows += planned.tokens;
        parts.push_back(Advance(planned));
      }
    }
    EXPECT_LE(rows, limits_.step_tokens);
    EXPECT_LE(std::count_if(lives_.begin(), lives_.end(),
                            [](const auto& entry) { return entry.second.running; }),
              limits_.max_running);
    if (!plan.empty()) {
      in_flight_.push_back(std::move(parts));
    }
    return !plan.empty() || !plan.preempt.empty();
  }

  void Preempt(std::uint64_t id, const PlanInput& before) {
    Life& life = lives_.at(id);
    EXPECT_TRUE(life.running);
    const std::vector<ScheduledSequence>& running = before.running;
    const std::vector<ScheduledSequence>& waiting = before.waiting;
    const bool first_in_line =
        std::all_of(running.begin(), running.end(),
                    [&life](const ScheduledSequence& other) {
                      return life.state.priority > other.priority ||
                             (life.state.priority == other.priority && life.state.id <= other.id);
                    }) &&
        std::all_of(waiting.begin(), waiting.end(), [&life](const ScheduledSequence& other) {
          return life.state.priority >= other.priority;
        });
    EXPECT_FALSE(first_in_line) << "the first in line lost its blocks";
    life.blocks->Release();
    life.state.computed_tokens = 0;
    life.state.preempted = true;
    life.running = false;
  }

  void Begin(Life& life) {
    if (life.running) {
      return;
    }
    EXPECT_EQ(life.state.steps_in_flight, 0) << "started over too early";
    life.running = true;
    const std::int32_t blocks = life.blocks->TakeFound(Keys(life, 1));
    life.state.computed_tokens = blocks * limits_.block_size;
    found_ += blocks;
  }

  Part Advance(const PlannedRows& planned) {
    Life& life = lives_.at(planned.id);
    ScheduledSequence& state = life.state;
    EXPECT_GT(planned.tokens, 0);
    EXPECT_TRUE(life.running);
    const std::int32_t first = state.computed_tokens;
    state.computed_tokens += planned.tokens;
    state.steps_in_flight += 1;
    EXPECT_LE(state.computed_tokens, state.known_tokens);
    if (!life.blocks->GrowTo(state.computed_tokens)) {
      ADD_FAILURE() << "planned more blocks than are free";
      return {};
    }
    const std::int32_t size = limits_.block_size;
    for (std::int32_t b = first / size; b < state.computed_tokens / size; ++b) {
      life.blocks->Publish(b, life.chain[static_cast<std::size_t>(b)]);
    }
    return {.id = planned.id, .gives_token = state.computed_tokens == state.known_tokens};
  }

  void TakeResult() {
    for (const Part& part : in_flight_.front()) {
      Life& life = lives_.at(part.id);
      life.state.steps_in_flight -= 1;
      if (part.gives_token && ++life.state.known_tokens >= life.end) {
        lives_.erase(part.id);
      }
    }
    in_flight_.pop_front();
  }

  std::mt19937 random_;
  PlanLimits limits_;
  BlockPool pool_;
  std::map<std::uint64_t, Life> lives_;
  std::deque<std::vector<Part>> in_flight_;
  std::int32_t round_ = 0;
  std::int64_t found_ = 0;  // blocks
};

class LivesTest : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(LivesTest, EverybodyEndsAndEveryPlanKeepsTheLimits) {
  // 100 workloads a case: cheap to run, quick to find.
  std::int64_t found = 0;
  for (std::uint32_t i = 0; i < 100; ++i) {
    SCOPED_TRACE(GetParam() * 100 + i);
    Simulation simulation(GetParam() * 100 + i);
    for (int round = 0; !simulation.over(); ++round) {
      ASSERT_LT(round, 20000) << "nobody makes progress";
      simulation.Round();
      ASSERT_FALSE(HasFailure());
    }
    found += simulation.found();
  }
  EXPECT_GT(found, 0) << "no block was ever used again";
}

INSTANTIATE_TEST_SUITE_P(Hundreds, LivesTest, ::testing::Range(0U, 10U));

}  // namespace
}  // namespace yangtuo
