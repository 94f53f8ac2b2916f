#include "inference_core/kv_cache/block_pool.h"

#include <set>
#include <utility>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

TEST(SequenceBlocksTest, GrowsByWholeBlocksAndOnlyWhenNeeded) {
  BlockPool pool(4, 8);
  SequenceBlocks blocks(pool);
  ASSERT_TRUE(blocks.GrowTo(1));
  EXPECT_EQ(blocks.size(), 1);
  ASSERT_TRUE(blocks.GrowTo(8));
  EXPECT_EQ(blocks.size(), 1);
  ASSERT_TRUE(blocks.GrowTo(9));
  EXPECT_EQ(blocks.size(), 2);
  EXPECT_EQ(pool.num_free(), 2);
}

TEST(SequenceBlocksTest, NoTwoSequencesShareABlock) {
  BlockPool pool(10, 4);
  SequenceBlocks a(pool);
  SequenceBlocks b(pool);
  ASSERT_TRUE(a.GrowTo(20));
  ASSERT_TRUE(b.GrowTo(20));
  std::set<std::int32_t> seen(a.table().begin(), a.table().end());
  seen.insert(b.table().begin(), b.table().end());
  EXPECT_EQ(seen.size(), 10);
  EXPECT_EQ(*seen.begin(), 0);
  EXPECT_EQ(*seen.rbegin(), 9);
}

TEST(SequenceBlocksTest, RefusesWhenExhaustedTakesNothingAndRecoversWhenAnotherDies) {
  BlockPool pool(3, 4);
  SequenceBlocks a(pool);
  {
    SequenceBlocks b(pool);
    ASSERT_TRUE(b.GrowTo(8));
    EXPECT_FALSE(a.GrowTo(8));
    EXPECT_EQ(a.size(), 0);
    EXPECT_EQ(pool.num_free(), 1);
  }
  EXPECT_TRUE(a.GrowTo(8));
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(SequenceBlocksTest, MovingHandsTheBlocksOver) {
  BlockPool pool(3, 4);
  SequenceBlocks a(pool);
  ASSERT_TRUE(a.GrowTo(8));
  SequenceBlocks b(std::move(a));
  EXPECT_EQ(b.size(), 2);
  SequenceBlocks c(pool);
  ASSERT_TRUE(c.GrowTo(4));
  c = std::move(b);
  EXPECT_EQ(c.size(), 2);
  EXPECT_EQ(pool.num_free(), 1);
  c.Release();
  EXPECT_EQ(pool.num_free(), 3);
}

}  // namespace
}  // namespace yangtuo
