#include "inference_core/kv_cache/block_pool.h"

#include <numeric>
#include <utility>

namespace yangtuo {

BlockPool::BlockPool(std::int32_t num_blocks, std::int32_t block_size)
    : num_blocks_(num_blocks),
      block_size_(block_size),
      free_(static_cast<std::size_t>(num_blocks)) {
  // Block 0 is taken first.
  std::iota(free_.rbegin(), free_.rend(), 0);
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

bool SequenceBlocks::GrowTo(std::int32_t tokens) {
  const std::int32_t missing = BlocksFor(tokens, pool_->block_size()) - size();
  if (missing > pool_->num_free()) {
    return false;
  }
  for (std::int32_t i = 0; i < missing; ++i) {
    table_.push_back(pool_->free_.back());
    pool_->free_.pop_back();
  }
  return true;
}

void SequenceBlocks::Release() {
  pool_->free_.insert(pool_->free_.end(), table_.rbegin(), table_.rend());
  table_.clear();
}

}  // namespace yangtuo
