#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace yangtuo {

// Which KV blocks of a group are free. Numbers only: the memory lies in every shard's cache, and
// the shards follow these indices. Owned by the engine's step loop; not thread-safe. Outlives what
// is taken from it.
class BlockPool {
 public:
  // `block_size` positions a block; both are at least 1.
  BlockPool(std::int32_t num_blocks, std::int32_t block_size);

  [[nodiscard]] std::int32_t num_blocks() const { return num_blocks_; }
  [[nodiscard]] std::int32_t num_free() const { return static_cast<std::int32_t>(free_.size()); }
  [[nodiscard]] std::int32_t block_size() const { return block_size_; }

 private:
  friend class SequenceBlocks;

  std::int32_t num_blocks_;
  std::int32_t block_size_;
  // Last in, first out: what was used last is most likely still in some cache.
  std::vector<std::int32_t> free_;
};

// Blocks that hold `tokens` positions.
[[nodiscard]] constexpr std::int32_t BlocksFor(std::int32_t tokens, std::int32_t block_size) {
  return tokens / block_size + (tokens % block_size != 0 ? 1 : 0);
}

// The block table of one sequence and the ownership of its blocks: dropping it gives them back, so
// that no way out of a sequence's life can leak one.
class SequenceBlocks {
 public:
  explicit SequenceBlocks(BlockPool& pool) : pool_(&pool) {}
  SequenceBlocks(SequenceBlocks&& other) noexcept;
  SequenceBlocks& operator=(SequenceBlocks&& other) noexcept;
  SequenceBlocks(const SequenceBlocks&) = delete;
  SequenceBlocks& operator=(const SequenceBlocks&) = delete;
  ~SequenceBlocks() { Release(); }

  // Takes blocks until `tokens` positions fit. False, and nothing taken, when the pool has too few:
  // running out is ordinary.
  [[nodiscard]] bool GrowTo(std::int32_t tokens);

  // Gives all blocks back.
  void Release();

  // Block b holds positions [b * block_size, (b + 1) * block_size).
  [[nodiscard]] std::span<const std::int32_t> table() const { return table_; }
  [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(table_.size()); }

 private:
  BlockPool* pool_;
  std::vector<std::int32_t> table_;
};

}  // namespace yangtuo
