#include "inference_core/kv_cache/block_key.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace yangtuo {
namespace {

// The keys are an interface: gateways compute them too. Expected values from Python's hashlib:
//   root = sha256(b"yangtuo-kv-1\0" + struct.pack("<ii", 4, 5) + b"a/f32")
//   key = sha256(root + struct.pack("<4i", 1, 2, 3, 4))
TEST(BlockKeyTest, IsTheChainThatItsNameSays) {
  const BlockKey root = RootBlockKey("a/f32", 4);
  EXPECT_EQ(ToHex(root), "836385f4dc68a272e0fa1d5712b313b6d4e84021a24e404bf28404275a1cd254");
  const std::array<std::int32_t, 4> ids = {1, 2, 3, 4};
  EXPECT_EQ(ToHex(BlockKeyHasher().Next(root, ids)),
            "5221cd6b72872010e7ab0d69d81a65be76e818875747c9d82c6e53329ce12a39");
  EXPECT_EQ(ToHex(SaltedBlockKey(root, "blue")),
            "c54cfb7633307735967d11fe7b6ee9c700a2d36fa870cf6bfb22311653f96439");
}

TEST(BlockKeyTest, DependsOnEverythingBefore) {
  BlockKeyHasher hasher;
  const std::array<std::int32_t, 2> ids = {7, 8};
  const std::array<std::int32_t, 2> others = {8, 7};
  const BlockKey root = RootBlockKey("model", 2);
  const BlockKey first = hasher.Next(root, ids);
  EXPECT_EQ(hasher.Next(root, ids), first) << "a hasher keeps nothing of what it did before";
  EXPECT_NE(hasher.Next(root, others), first);
  EXPECT_NE(hasher.Next(first, ids), first);
  EXPECT_NE(hasher.Next(RootBlockKey("model", 4), ids), first);
  EXPECT_NE(hasher.Next(RootBlockKey("other", 2), ids), first);
  EXPECT_NE(hasher.Next(SaltedBlockKey(root, "tenant"), ids), first);
  EXPECT_EQ(SaltedBlockKey(root, ""), root);
}

}  // namespace
}  // namespace yangtuo
