#include "inference_core/kv_cache/block_pool.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <numeric>
#include <utility>

namespace yangtuo {

BlockPool::BlockPool(std::int32_t num_blocks, std::int32_t block_size)
    : block_size_(block_size),
      blocks_(static_cast<std::size_t>(num_blocks)),
      blank_(static_cast<std::size_t>(num_blocks)),
      buckets_(std::bit_ceil(static_cast<std::size_t>(num_blocks)), kNone) {
  // Block 0 is taken first.
  std::iota(blank_.rbegin(), blank_.rend(), 0);
}

std::size_t BlockPool::BucketOf(const BlockKey& key) const {
  // Keys are hashes already.
  std::size_t bits = 0;
  std::memcpy(&bits, key.data(), sizeof(bits));
  return bits & (buckets_.size() - 1);
}

std::int32_t BlockPool::Lookup(const BlockKey& key) const {
  std::int32_t block = buckets_[BucketOf(key)];
  while (block != kNone && At(block).key != key) {
    block = At(block).next_in_bucket;
  }
  return block;
}

BlockPool::Found BlockPool::Find(std::span<const BlockKey> chain,
                                 std::span<const SequenceBlocks* const> without) const {
  Found found;
  for (const BlockKey& key : chain) {
    const std::int32_t block = Lookup(key);
    if (block == kNone) {
      break;
    }
    // A block has the same place in all tables: its key covers what precedes it.
    const auto index = static_cast<std::size_t>(found.blocks++);
    const auto holds = [block, index](const SequenceBlocks* blocks) {
      return index < blocks->table().size() && blocks->table()[index] == block;
    };
    const std::int32_t holders = At(block).holders;
    const bool unheld =
        holders == 0 || (holders == 1 && std::any_of(without.begin(), without.end(), holds));
    found.unheld += unheld ? 1 : 0;
  }
  return found;
}

void BlockPool::ForgetContents() {
  for (std::int32_t block = 0; block < num_blocks(); ++block) {
    if (At(block).published) {
      Unpublish(block);
      if (At(block).holders == 0) {
        Unqueue(block);
        blank_.push_back(block);
      }
    }
  }
}

std::int32_t BlockPool::Take() {
  std::int32_t block = oldest_;
  if (!blank_.empty()) {
    block = blank_.back();
    blank_.pop_back();
  } else {
    Unqueue(block);
    Unpublish(block);
    ++evictions_;
  }
  At(block).holders = 1;
  return block;
}

void BlockPool::Hold(std::int32_t block) {
  if (At(block).holders++ == 0) {
    Unqueue(block);
  }
}

void BlockPool::Drop(std::int32_t block) {
  assert(At(block).holders > 0);
  if (--At(block).holders > 0) {
    return;
  }
  if (At(block).published) {
    Enqueue(block);
  } else {
    blank_.push_back(block);
  }
}

void BlockPool::Publish(std::int32_t block, const BlockKey& key) {
  if (At(block).published || Lookup(key) != kNone) {
    return;
  }
  Block& published = At(block);
  published.key = key;
  published.published = true;
  std::int32_t& first = buckets_[BucketOf(key)];
  published.next_in_bucket = std::exchange(first, block);
}

void BlockPool::Unpublish(std::int32_t block) {
  std::int32_t* link = &buckets_[BucketOf(At(block).key)];
  while (*link != block) {
    link = &At(*link).next_in_bucket;
  }
  *link = std::exchange(At(block).next_in_bucket, kNone);
  At(block).published = false;
}

void BlockPool::Enqueue(std::int32_t block) {
  At(block).older = std::exchange(newest_, block);
  (At(block).older == kNone ? oldest_ : At(At(block).older).newer) = block;
  ++num_cached_;
}

void BlockPool::Unqueue(std::int32_t block) {
  const std::int32_t older = std::exchange(At(block).older, kNone);
  const std::int32_t newer = std::exchange(At(block).newer, kNone);
  (older == kNone ? oldest_ : At(older).newer) = newer;
  (newer == kNone ? newest_ : At(newer).older) = older;
  --num_cached_;
}

SequenceBlocks::SequenceBlocks(SequenceBlocks&& other) noexcept
    : pool_(other.pool_), table_(std::exchange(other.table_, {})) {}

SequenceBlocks& SequenceBlocks::operator=(SequenceBlocks&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = other.pool_;
    table_ = std::exchange(other.table_, {});
  }
  return *this;
}

std::int32_t SequenceBlocks::TakeFound(std::span<const BlockKey> chain) {
  assert(table_.empty());
  for (const BlockKey& key : chain) {
    const std::int32_t block = pool_->Lookup(key);
    if (block == BlockPool::kNone) {
      break;
    }
    pool_->Hold(block);
    table_.push_back(block);
  }
  return size();
}

bool SequenceBlocks::GrowTo(std::int32_t tokens) {
  const std::int32_t missing = BlocksFor(tokens, pool_->block_size()) - size();
  if (missing > pool_->num_free()) {
    return false;
  }
  for (std::int32_t i = 0; i < missing; ++i) {
    table_.push_back(pool_->Take());
  }
  return true;
}

void SequenceBlocks::Publish(std::int32_t index, const BlockKey& key) {
  pool_->Publish(table_[static_cast<std::size_t>(index)], key);
}

void SequenceBlocks::ForgetContents() {
  for (const std::int32_t block : table_) {
    if (pool_->At(block).published) {
      pool_->Unpublish(block);
    }
  }
}

void SequenceBlocks::Release() {
  for (auto block = table_.rbegin(); block != table_.rend(); ++block) {
    pool_->Drop(*block);
  }
  table_.clear();
}

void SequenceBlocks::Reserve(std::int32_t tokens) {
  table_.reserve(static_cast<std::size_t>(BlocksFor(tokens, pool_->block_size())));
}

std::int32_t SequenceBlocks::num_shared() const {
  return static_cast<std::int32_t>(std::count_if(
      table_.begin(), table_.end(), [this](std::int32_t b) { return pool_->At(b).holders > 1; }));
}

}  // namespace yangtuo
