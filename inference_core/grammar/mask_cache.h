#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "inference_core/base/mutex.h"
#include "inference_core/grammar/lru_map.h"
#include "inference_core/grammar/simulator.h"
#include "inference_core/grammar/token_bits.h"

namespace yangtuo {

// Allowed tokens by vocabulary and place in one grammar; those used least recently go first.
// Thread-safe.
class MaskCache {
 public:
  // Masks kept; 7 KB each with 55,296 pieces.
  static constexpr std::size_t kMasks = 256;

  // Null when it is not known.
  [[nodiscard]] std::shared_ptr<const TokenBits> Find(std::uint64_t vocabulary, const Place& place);
  void Insert(std::uint64_t vocabulary, const Place& place, std::shared_ptr<const TokenBits> mask);
  [[nodiscard]] std::size_t size() const;

 private:
  struct Key {
    std::uint64_t vocabulary = 0;
    Place place = {};
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const;
  };

  mutable Mutex mutex_;
  LruMap<Key, std::shared_ptr<const TokenBits>, KeyHash> masks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo
