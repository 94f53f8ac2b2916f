#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/kv_cache/block_pool.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::int32_t kBlockSize = 2;

// Keys of blocks that are full of `ids`, one id a block.
std::vector<BlockKey> Chain(std::span<const std::int32_t> ids) {
  BlockKeyHasher hasher;
  std::vector<BlockKey> chain;
  BlockKey parent = RootBlockKey("model", kBlockSize);
  for (const std::int32_t id : ids) {
    parent = chain.emplace_back(hasher.Next(parent, std::array{id, id}));
  }
  return chain;
}

std::vector<BlockKey> Chain(std::initializer_list<std::int32_t> ids) {
  return Chain(std::span<const std::int32_t>(ids.begin(), ids.size()));
}

std::vector<std::int32_t> TableOf(const SequenceBlocks& blocks) {
  return {blocks.table().begin(), blocks.table().end()};
}

// Grows to the chain's blocks and publishes them all.
void Fill(SequenceBlocks& blocks, std::span<const BlockKey> chain) {
  ASSERT_TRUE(blocks.GrowTo(static_cast<std::int32_t>(chain.size()) * kBlockSize));
  for (std::size_t i = 0; i < chain.size(); ++i) {
    blocks.Publish(static_cast<std::int32_t>(i), chain[i]);
  }
}

TEST(BlockReuseTest, FindsThePrefixThatAnotherSequenceHolds) {
  BlockPool pool(10, kBlockSize);
  SequenceBlocks first(pool);
  Fill(first, Chain({1, 2, 3}));
  const auto chain = Chain({1, 2, 9});
  EXPECT_EQ(pool.Find(chain).blocks, 2);
  EXPECT_EQ(pool.Find(chain).unheld, 0);
  SequenceBlocks second(pool);
  EXPECT_EQ(second.TakeFound(chain), 2);
  EXPECT_THAT(TableOf(second), ElementsAre(first.table()[0], first.table()[1]));
  EXPECT_EQ(pool.num_free(), 7) << "what two hold is taken once";
  EXPECT_EQ(first.num_shared(), 2);
  ASSERT_TRUE(second.GrowTo(3 * kBlockSize));
  EXPECT_NE(second.table()[2], first.table()[2]) << "new positions never go to a shared block";
  EXPECT_EQ(second.num_shared(), 2);
}

TEST(BlockReuseTest, TellsWhatWouldBeUnheldWithoutSomeOfTheHolders) {
  BlockPool pool(10, kBlockSize);
  SequenceBlocks first(pool);
  Fill(first, Chain({1, 2, 3}));
  SequenceBlocks second(pool);
  EXPECT_EQ(second.TakeFound(Chain({1})), 1);
  SequenceBlocks other(pool);
  Fill(other, Chain({7, 8}));
  const std::array<const SequenceBlocks*, 1> one = {&first};
  const std::array<const SequenceBlocks*, 2> both = {&first, &second};
  const std::array<const SequenceBlocks*, 1> else_held = {&other};
  EXPECT_EQ(pool.Find(Chain({1, 2, 3}), one).blocks, 3);
  EXPECT_EQ(pool.Find(Chain({1, 2, 3}), one).unheld, 2);
  EXPECT_EQ(pool.Find(Chain({1, 2, 3}), both).unheld, 2) << "what two hold counts for neither";
  EXPECT_EQ(pool.Find(Chain({1, 2, 3}), else_held).unheld, 0);
}

TEST(BlockReuseTest, ForgottenContentsAreNotFoundWhoeverElseHoldsThem) {
  BlockPool pool(10, kBlockSize);
  SequenceBlocks first(pool);
  Fill(first, Chain({1, 2}));
  SequenceBlocks second(pool);
  EXPECT_EQ(second.TakeFound(Chain({1})), 1);
  ASSERT_TRUE(second.GrowTo(2 * kBlockSize));
  SequenceBlocks other(pool);
  Fill(other, Chain({7}));
  second.ForgetContents();
  EXPECT_EQ(pool.Find(Chain({1, 2})).blocks, 0);
  EXPECT_EQ(pool.Find(Chain({7})).blocks, 1);
  first.Release();
  second.Release();
  EXPECT_EQ(pool.num_free(), 9);
  EXPECT_EQ(pool.num_cached(), 1) << "the second block of the first, which nobody finds";
}

TEST(BlockReuseTest, ContentSurvivesItsHolderAndCountsAsFree) {
  BlockPool pool(4, kBlockSize);
  std::vector<std::int32_t> before;
  {
    SequenceBlocks blocks(pool);
    Fill(blocks, Chain({1, 2}));
    before = TableOf(blocks);
  }
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.num_cached(), 2);
  EXPECT_EQ(pool.Find(Chain({1, 2})).unheld, 2);
  SequenceBlocks again(pool);
  EXPECT_EQ(again.TakeFound(Chain({1, 2})), 2);
  EXPECT_EQ(TableOf(again), before);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.num_cached(), 0);
}

TEST(BlockReuseTest, TakesBlankBlocksBeforeItEvicts) {
  BlockPool pool(4, kBlockSize);
  {
    SequenceBlocks blocks(pool);
    Fill(blocks, Chain({1, 2}));
  }
  SequenceBlocks other(pool);
  ASSERT_TRUE(other.GrowTo(2 * kBlockSize));
  EXPECT_EQ(pool.Find(Chain({1, 2})).blocks, 2);
  EXPECT_EQ(pool.evictions(), 0);
  ASSERT_TRUE(other.GrowTo(3 * kBlockSize));
  EXPECT_EQ(pool.Find(Chain({1, 2})).blocks, 1) << "the end of a chain goes before its beginning";
  EXPECT_EQ(pool.evictions(), 1);
}

TEST(BlockReuseTest, EvictsWhatWasHeldLeastRecently) {
  BlockPool pool(3, kBlockSize);
  for (const std::int32_t id : {1, 2, 3}) {
    SequenceBlocks blocks(pool);
    Fill(blocks, Chain({id}));
  }
  {
    SequenceBlocks blocks(pool);
    EXPECT_EQ(blocks.TakeFound(Chain({1})), 1);
  }
  SequenceBlocks taker(pool);
  ASSERT_TRUE(taker.GrowTo(2 * kBlockSize));
  EXPECT_EQ(pool.Find(Chain({1})).blocks, 1);
  EXPECT_EQ(pool.Find(Chain({2})).blocks, 0);
  EXPECT_EQ(pool.Find(Chain({3})).blocks, 0);
}

TEST(BlockReuseTest, NeverEvictsWhatSomebodyHolds) {
  BlockPool pool(3, kBlockSize);
  SequenceBlocks holder(pool);
  Fill(holder, Chain({1, 2}));
  SequenceBlocks taker(pool);
  EXPECT_FALSE(taker.GrowTo(2 * kBlockSize));
  EXPECT_TRUE(taker.GrowTo(1 * kBlockSize));
  EXPECT_EQ(pool.Find(Chain({1, 2})).blocks, 2);
}

TEST(BlockReuseTest, SecondBlockWithTheSameContentIsNotFoundAndBecomesBlank) {
  BlockPool pool(4, kBlockSize);
  SequenceBlocks first(pool);
  Fill(first, Chain({1}));
  {
    SequenceBlocks twin(pool);
    Fill(twin, Chain({1}));
    EXPECT_NE(twin.table()[0], first.table()[0]);
    EXPECT_EQ(twin.num_shared(), 0);
  }
  EXPECT_EQ(pool.num_cached(), 0);
  SequenceBlocks taker(pool);
  EXPECT_EQ(taker.TakeFound(Chain({1})), 1);
  EXPECT_EQ(taker.table()[0], first.table()[0]);
}

TEST(BlockReuseTest, ForgettingContentsKeepsHoldsAndFindsNothing) {
  BlockPool pool(4, kBlockSize);
  SequenceBlocks holder(pool);
  Fill(holder, Chain({1}));
  {
    SequenceBlocks gone(pool);
    Fill(gone, Chain({2}));
  }
  pool.ForgetContents();
  EXPECT_EQ(pool.Find(Chain({1})).blocks, 0);
  EXPECT_EQ(pool.Find(Chain({2})).blocks, 0);
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(pool.num_cached(), 0);
  holder.Release();
  EXPECT_EQ(pool.num_free(), 4);
  EXPECT_EQ(pool.evictions(), 0);
}

// What a pool does under random use, beside a plain account of what every block holds.
class RandomUse {
 public:
  explicit RandomUse(std::uint32_t seed) : random_(seed), pool_(Between(2, 24), kBlockSize) {}

  void Act() {
    const std::int32_t what = Between(0, 99);
    if (what < 55) {
      Begin();
    } else if (what < 98 && !live_.empty()) {
      live_.erase(live_.begin() + Between(0, static_cast<std::int32_t>(live_.size()) - 1));
    } else if (what == 99) {
      pool_.ForgetContents();
      content_.clear();
    }
    Check();
  }

 private:
  struct Sequence {
    SequenceBlocks blocks;
    std::vector<BlockKey> chain;
  };

  std::int32_t Between(std::int32_t low, std::int32_t high) {
    return std::uniform_int_distribution<std::int32_t>(low, high)(random_);
  }

  void Begin() {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(Between(1, 6)));
    std::generate(ids.begin(), ids.end(), [this] { return Between(1, 2); });
    const std::vector<BlockKey> chain = Chain(ids);
    const BlockPool::Found found = pool_.Find(chain);
    const std::int32_t free = pool_.num_free();
    SequenceBlocks blocks(pool_);
    ASSERT_EQ(blocks.TakeFound(chain), found.blocks);
    ASSERT_EQ(pool_.num_free(), free - found.unheld);
    for (std::int32_t i = 0; i < found.blocks; ++i) {
      const auto at = static_cast<std::size_t>(i);
      ASSERT_EQ(content_.at(blocks.table()[at]), chain[at]) << "a block with another content";
    }
    const auto wanted = static_cast<std::int32_t>(ids.size());
    const bool fits = wanted - found.blocks <= pool_.num_free();
    ASSERT_EQ(blocks.GrowTo(wanted * kBlockSize), fits);
    for (std::int32_t i = found.blocks; i < blocks.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      ASSERT_EQ(Holders(blocks.table()[at]), 0) << "a block that somebody holds was written";
      content_[blocks.table()[at]] = chain[at];
      blocks.Publish(i, chain[at]);
    }
    if (fits) {
      live_.push_back({.blocks = std::move(blocks), .chain = chain});
    }
  }

  std::int32_t Holders(std::int32_t block) const {
    return static_cast<std::int32_t>(
        std::count_if(live_.begin(), live_.end(), [block](const Sequence& s) {
          return std::count(s.blocks.table().begin(), s.blocks.table().end(), block) > 0;
        }));
  }

  void Check() const {
    std::int32_t unheld = 0;
    for (std::int32_t block = 0; block < pool_.num_blocks(); ++block) {
      unheld += Holders(block) == 0 ? 1 : 0;
    }
    ASSERT_EQ(pool_.num_free(), unheld);
    ASSERT_LE(pool_.num_cached(), unheld);
    for (const Sequence& sequence : live_) {
      for (std::size_t i = 0; i < sequence.chain.size(); ++i) {
        const auto held = content_.find(sequence.blocks.table()[i]);
        ASSERT_TRUE(held == content_.end() || held->second == sequence.chain[i]);
      }
    }
  }

  std::mt19937 random_;
  BlockPool pool_;
  std::map<std::int32_t, BlockKey> content_;  // of the blocks written since the last forgetting
  std::vector<Sequence> live_;
};

TEST(BlockReuseTest, KeepsEveryContentThroughRandomUse) {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    RandomUse use(seed);
    for (int i = 0; i < 300; ++i) {
      use.Act();
      ASSERT_FALSE(HasFatalFailure());
    }
  }
}

}  // namespace
}  // namespace yangtuo
