#include "inference_core/grammar/mask_cache.h"

#include <utility>

#include "absl/hash/hash.h"

namespace yangtuo {

std::size_t MaskCache::KeyHash::operator()(const Key& key) const {
  return absl::HashOf(key.vocabulary, key.place.threads, key.place.complete);
}

std::shared_ptr<const TokenBits> MaskCache::Find(std::uint64_t vocabulary, const Place& place) {
  const Key key{.vocabulary = vocabulary, .place = place};
  const MutexLock lock(mutex_);
  const std::shared_ptr<const TokenBits>* found = masks_.Find(key);
  return found == nullptr ? nullptr : *found;
}

void MaskCache::Insert(std::uint64_t vocabulary, const Place& place,
                       std::shared_ptr<const TokenBits> mask) {
  Key key{.vocabulary = vocabulary, .place = place};
  const MutexLock lock(mutex_);
  if (masks_.Find(key) != nullptr) {
    return;  // another thread was here
  }
  masks_.Insert(std::move(key), std::move(mask));
  if (masks_.size() > kMasks) {
    masks_.RemoveOldest();
  }
}

std::size_t MaskCache::size() const {
  const MutexLock lock(mutex_);
  return masks_.size();
}

}  // namespace yangtuo
