#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "inference_core/kv_cache/block_key.h"

namespace yangtuo {

class SequenceBlocks;

// Which KV blocks of a group are held by whom, and what the full ones hold. Numbers only: the
// memory lies in every shard's cache, and the shards follow these indices. Owned by the engine's
// step loop; not thread-safe. Outlives what is taken from it.
//
// A block whose content was published under a key can be found again by it, also after its holders
// are gone, until it is taken for something else: blank blocks are taken first, then the published
// ones that nobody holds, least recently held first. A found block is held by several sequences at
// once, and none of them writes it: it is full.
//
// All memory is taken by the constructor, about 64 bytes a block.
class BlockPool {
 public:
  // `block_size` positions a block; both are at least 1.
  BlockPool(std::int32_t num_blocks, std::int32_t block_size);

  [[nodiscard]] std::int32_t num_blocks() const {
    return static_cast<std::int32_t>(blocks_.size());
  }
  [[nodiscard]] std::int32_t block_size() const { return block_size_; }
  // Blocks that nobody holds, with or without content to find.
  [[nodiscard]] std::int32_t num_free() const {
    return static_cast<std::int32_t>(blank_.size()) + num_cached_;
  }
  // Those of them whose content can be found.
  [[nodiscard]] std::int32_t num_cached() const { return num_cached_; }
  // Blocks that lost findable content to somebody else, ever.
  [[nodiscard]] std::int64_t evictions() const { return evictions_; }

  // What a search for a chain of keys finds.
  struct Found {
    std::int32_t blocks = 0;  // the first so many keys
    std::int32_t unheld = 0;  // those of them that nobody holds: taking them makes fewer free
  };
  [[nodiscard]] Found Find(std::span<const BlockKey> chain) const { return Find(chain, {}); }
  // The same for a pool in which those of `without` are about to give up their blocks: what one of
  // them holds alone counts as unheld. What several of them hold does not; it makes nothing free as
  // long as blocks that are shared count for none of their holders.
  [[nodiscard]] Found Find(std::span<const BlockKey> chain,
                           std::span<const SequenceBlocks* const> without) const;

  // The content of all blocks is lost: nothing can be found any more.
  void ForgetContents();

 private:
  friend class SequenceBlocks;

  static constexpr std::int32_t kNone = -1;

  struct Block {
    BlockKey key;
    std::int32_t holders = 0;
    bool published = false;
    std::int32_t next_in_bucket = kNone;  // of published blocks
    // Neighbours in the queue of published blocks that nobody holds.
    std::int32_t older = kNone;
    std::int32_t newer = kNone;
  };

  [[nodiscard]] Block& At(std::int32_t block) { return blocks_[static_cast<std::size_t>(block)]; }
  [[nodiscard]] const Block& At(std::int32_t block) const {
    return blocks_[static_cast<std::size_t>(block)];
  }
  [[nodiscard]] std::size_t BucketOf(const BlockKey& key) const;
  [[nodiscard]] std::int32_t Lookup(const BlockKey& key) const;

  // A block with one holder and no content; one must be free.
  std::int32_t Take();
  void Hold(std::int32_t block);
  void Drop(std::int32_t block);
  void Publish(std::int32_t block, const BlockKey& key);
  void Unpublish(std::int32_t block);
  void Enqueue(std::int32_t block);
  void Unqueue(std::int32_t block);

  std::int32_t block_size_;
  std::vector<Block> blocks_;
  // Without content. Last in, first out: what was used last is most likely still in some cache.
  std::vector<std::int32_t> blank_;
  // First published block of every bucket of keys; a power of two of them.
  std::vector<std::int32_t> buckets_;
  std::int32_t oldest_ = kNone;
  std::int32_t newest_ = kNone;
  std::int32_t num_cached_ = 0;
  std::int64_t evictions_ = 0;
};

// Blocks that hold `tokens` positions.
[[nodiscard]] constexpr std::int32_t BlocksFor(std::int32_t tokens, std::int32_t block_size) {
  return tokens / block_size + (tokens % block_size != 0 ? 1 : 0);
}

// The block table of one sequence and its hold on the blocks: dropping it gives them back, so that
// no way out of a sequence's life can leak one.
class SequenceBlocks {
 public:
  explicit SequenceBlocks(BlockPool& pool) : pool_(&pool) {}
  SequenceBlocks(SequenceBlocks&& other) noexcept;
  SequenceBlocks& operator=(SequenceBlocks&& other) noexcept;
  SequenceBlocks(const SequenceBlocks&) = delete;
  SequenceBlocks& operator=(const SequenceBlocks&) = delete;
  ~SequenceBlocks() { Release(); }

  // Begins the table, which is empty, with the blocks of the chain's keys that are found; says how
  // many.
  std::int32_t TakeFound(std::span<const BlockKey> chain);

  // Takes blocks until `tokens` positions fit. False, and nothing taken, when the pool has too few:
  // running out is ordinary.
  [[nodiscard]] bool GrowTo(std::int32_t tokens);

  // Block `index` of the table is full of what `key` names, and is never written again. Without
  // effect when another block has the key already.
  void Publish(std::int32_t index, const BlockKey& key);

  // Nothing of these blocks can be found any more, whoever published it.
  void ForgetContents();

  // Gives all blocks back. Of their contents, those at the end of the table are evicted first:
  // nothing can be found without what precedes it.
  void Release();

  // Memory for a table of `tokens` positions, so that growing takes none.
  void Reserve(std::int32_t tokens);
  [[nodiscard]] std::size_t capacity() const { return table_.capacity(); }

  // Block b holds positions [b * block_size, (b + 1) * block_size).
  [[nodiscard]] std::span<const std::int32_t> table() const { return table_; }
  [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(table_.size()); }
  // How many others hold too: they do not become free when this one lets go.
  [[nodiscard]] std::int32_t num_shared() const;

 private:
  BlockPool* pool_;
  std::vector<std::int32_t> table_;
};

}  // namespace yangtuo
