#include "inference_core/kv_cache/block_key.h"

#include <bit>
#include <cstddef>

namespace yangtuo {
namespace {

// What is hashed is memory; see kBlockKeyScheme.
static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kDomain("yangtuo-kv-1\0", 13);

void Add(Sha256& hash, std::int32_t number) { hash.Update(std::as_bytes(std::span(&number, 1))); }

}  // namespace

BlockKey RootBlockKey(std::string_view numerics_id, std::int32_t block_size) {
  Sha256 hash;
  hash.Update(kDomain);
  Add(hash, block_size);
  Add(hash, static_cast<std::int32_t>(numerics_id.size()));
  hash.Update(numerics_id);
  return hash.Finish();
}

BlockKey SaltedBlockKey(const BlockKey& root, std::string_view salt) {
  if (salt.empty()) {
    return root;
  }
  Sha256 hash;
  hash.Update(std::span<const std::byte>(root));
  hash.Update(salt);
  return hash.Finish();
}

BlockKey BlockKeyHasher::Next(const BlockKey& parent, std::span<const std::int32_t> ids) {
  hash_.Update(std::span<const std::byte>(parent));
  hash_.Update(std::as_bytes(ids));
  return hash_.Finish();
}

}  // namespace yangtuo
