#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/sha256.h"
#include "yangtuo/internal/v1/inference.pb.h"

namespace yangtuo::gateway {

// Names a full KV block by everything up to its end, as workers do (PrefixScheme).
using PrefixKey = Sha256Digest;

// The scheme that this gateway can compute.
inline constexpr std::string_view kPrefixScheme = "sha256-chain-1";

// The keys of a prompt's full blocks that a worker could use again: one token is always left to
// compute. Empty for a scheme that is not kPrefixScheme.
std::vector<PrefixKey> PrefixKeys(const internal::v1::PrefixScheme& scheme, std::string_view salt,
                                  std::span<const std::uint32_t> prompt_ids);

// Which groups were sent which prompts: a bounded memory of keys, the longest unused goes first. It
// may be wrong, since workers evict as well; a wrong guess costs computing a prompt, never a wrong
// answer. A group that was lost and came back is another group, with nothing in its cache.
// Thread-safe.
class PrefixIndex {
 public:
  explicit PrefixIndex(std::size_t max_keys) : max_keys_(max_keys) {}
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  // How many leading keys each of `groups` was sent.
  [[nodiscard]] std::vector<std::size_t> LeadingBlocks(std::span<const PrefixKey> keys,
                                                       std::span<const std::uint64_t> groups) const
      ABSL_LOCKS_EXCLUDED(mutex_);
  void Remember(std::span<const PrefixKey> keys, std::uint64_t group) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] std::size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // The groups that had it last, the newest first; 0: none.
  using Holders = std::array<std::uint64_t, 4>;
  struct Entry {
    PrefixKey key;
    Holders holders;
  };
  struct Hash {
    std::size_t operator()(const PrefixKey& key) const;
  };

  const std::size_t max_keys_;
  mutable Mutex mutex_;
  std::list<Entry> recent_ ABSL_GUARDED_BY(mutex_);  // the newest first
  std::unordered_map<PrefixKey, std::list<Entry>::iterator, Hash> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace yangtuo::gateway
