#include "inference_core/kv_cache/block_pool.h"

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(BlockPoolTest, GivesOutEveryBlockOnce) {
  BlockPool pool(5, 4);
  SequenceBlocks a(pool);
  SequenceBlocks b(pool);
  ASSERT_TRUE(a.GrowTo(9));
  ASSERT_TRUE(b.GrowTo(8));
  std::set<std::int32_t> blocks(a.table().begin(), a.table().end());
  blocks.insert(b.table().begin(), b.table().end());
  EXPECT_THAT(blocks, ElementsAre(0, 1, 2, 3, 4));
  EXPECT_EQ(pool.num_free(), 0);
}

TEST(BlockPoolTest, TakesABlockOnlyWhenThePositionsNeedOne) {
  BlockPool pool(5, 4);
  SequenceBlocks blocks(pool);
  ASSERT_TRUE(blocks.GrowTo(1));
  const std::int32_t first = blocks.table()[0];
  ASSERT_TRUE(blocks.GrowTo(4));
  EXPECT_THAT(blocks.table(), ElementsAre(first));
  ASSERT_TRUE(blocks.GrowTo(5));
  EXPECT_EQ(blocks.size(), 2);
  EXPECT_EQ(blocks.table()[0], first) << "what is written stays where it is";
  ASSERT_TRUE(blocks.GrowTo(2)) << "fewer positions than before need nothing";
  EXPECT_EQ(blocks.size(), 2);
}

TEST(BlockPoolTest, TakesNothingWhenThereAreTooFewAndRecoversWhenASequenceDies) {
  BlockPool pool(3, 4);
  SequenceBlocks waiting(pool);
  {
    SequenceBlocks running(pool);
    ASSERT_TRUE(running.GrowTo(8));
    EXPECT_FALSE(waiting.GrowTo(8));
    EXPECT_THAT(waiting.table(), IsEmpty());
    EXPECT_EQ(pool.num_free(), 1);
  }
  EXPECT_TRUE(waiting.GrowTo(12));
}

TEST(BlockPoolTest, MovingHandsTheBlocksOverAndGivesTheOldOnesBack) {
  BlockPool pool(4, 1);
  SequenceBlocks a(pool);
  SequenceBlocks b(pool);
  ASSERT_TRUE(a.GrowTo(3));
  ASSERT_TRUE(b.GrowTo(1));
  b = std::move(a);
  EXPECT_EQ(b.size(), 3);
  EXPECT_EQ(pool.num_free(), 1);
  const SequenceBlocks c = std::move(b);
  EXPECT_EQ(c.size(), 3);
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(BlockPoolTest, ReleasedBlocksAreTakenAgainFirst) {
  BlockPool pool(100, 1);
  SequenceBlocks a(pool);
  ASSERT_TRUE(a.GrowTo(3));
  const std::vector<std::int32_t> before(a.table().begin(), a.table().end());
  a.Release();
  ASSERT_TRUE(a.GrowTo(3));
  EXPECT_THAT(a.table(), ::testing::ElementsAreArray(before));
}

TEST(BlocksForTest, RoundsUp) {
  EXPECT_EQ(BlocksFor(0, 32), 0);
  EXPECT_EQ(BlocksFor(1, 32), 1);
  EXPECT_EQ(BlocksFor(32, 32), 1);
  EXPECT_EQ(BlocksFor(33, 32), 2);
}

}  // namespace
}  // namespace yangtuo
