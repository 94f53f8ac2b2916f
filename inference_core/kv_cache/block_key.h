#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "inference_core/base/sha256.h"

namespace yangtuo {

// Names what a full KV block holds: its own ids and, through its parent's key, everything before
// them, the model and the way it is computed. Equal keys, equal keys and values.
using BlockKey = Sha256Digest;

// The scheme's name, for whoever computes keys elsewhere (a gateway that looks for the group that
// has a prefix already). Integers are 32 bits, little endian:
//   root  = SHA-256("yangtuo-kv-1" 0x00, block size, length of the numerics id, numerics id)
//   start = SHA-256(root, salt), or the root itself without a salt
//   key   = SHA-256(key of the block before, or the start; the block's ids)
inline constexpr std::string_view kBlockKeyScheme = "sha256-chain-1";

// Parent of first blocks. `numerics_id` (model digest and numerics) covers weights, rope settings,
// weight and KV types and the kernels.
[[nodiscard]] BlockKey RootBlockKey(std::string_view numerics_id, std::int32_t block_size);

// Parent of the first blocks of requests that share nothing with those of another salt.
[[nodiscard]] BlockKey SaltedBlockKey(const BlockKey& root, std::string_view salt);

// Computes chains of keys. One thread at a time.
class BlockKeyHasher {
 public:
  // `ids` fill one block. About 0.5 us for a block of 32.
  [[nodiscard]] BlockKey Next(const BlockKey& parent, std::span<const std::int32_t> ids);

 private:
  Sha256 hash_;
};

}  // namespace yangtuo
