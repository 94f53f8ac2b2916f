#include "gateway/prefix_index.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

namespace yangtuo::gateway {
namespace {

// Ids are hashed as they lie in memory.
static_assert(std::endian::native == std::endian::little);

}  // namespace

std::vector<PrefixKey> PrefixKeys(const internal::v1::PrefixScheme& scheme, std::string_view salt,
                                  std::span<const std::uint32_t> prompt_ids) {
  std::vector<PrefixKey> keys;
  const std::size_t block = scheme.block_size();
  if (scheme.scheme() != kPrefixScheme || block == 0 || prompt_ids.empty()) {
    return keys;
  }
  Sha256 hash;
  std::span<const std::byte> parent = std::as_bytes(std::span(scheme.root()));
  PrefixKey salted{};
  if (!salt.empty()) {
    hash.Update(parent);
    hash.Update(salt);
    salted = hash.Finish();
    parent = salted;
  }
  keys.reserve(prompt_ids.size() / block);
  for (std::size_t end = block; end < prompt_ids.size(); end += block) {
    hash.Update(parent);
    hash.Update(std::as_bytes(prompt_ids.subspan(end - block, block)));
    keys.push_back(hash.Finish());
    parent = keys.back();
  }
  return keys;
}

std::size_t PrefixIndex::Hash::operator()(const PrefixKey& key) const {
  std::size_t value = 0;  // any part of a SHA-256 is a good hash
  std::memcpy(&value, key.data(), sizeof(value));
  return value;
}

std::vector<std::size_t> PrefixIndex::LeadingBlocks(std::span<const PrefixKey> keys,
                                                    std::span<const std::uint64_t> groups) const {
  std::vector<std::size_t> blocks(groups.size(), 0);
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto found = entries_.find(keys[i]);
    if (found == entries_.end()) {
      break;
    }
    const Holders& holders = found->second->holders;
    for (std::size_t group = 0; group < groups.size(); ++group) {
      const bool holds = std::find(holders.begin(), holders.end(), groups[group]) != holders.end();
      if (holds && blocks[group] == i) {
        ++blocks[group];
      }
    }
  }
  return blocks;
}

void PrefixIndex::Remember(std::span<const PrefixKey> keys, std::uint64_t group) {
  if (max_keys_ == 0) {
    return;
  }
  const MutexLock lock(mutex_);
  // The last block first, so that a prompt's end is forgotten before its beginning.
  for (auto key = keys.rbegin(); key != keys.rend(); ++key) {
    const auto found = entries_.find(*key);
    if (found == entries_.end()) {
      recent_.push_front({.key = *key, .holders = {group}});
      entries_.emplace(*key, recent_.begin());
    } else {
      recent_.splice(recent_.begin(), recent_, found->second);
      Holders& holders = found->second->holders;
      const auto place = std::find(holders.begin(), holders.end(), group);
      const auto last = place == holders.end() ? holders.end() - 1 : place;
      std::rotate(holders.begin(), last, last + 1);
      holders.front() = group;
    }
    if (entries_.size() > max_keys_) {
      entries_.erase(recent_.back().key);
      recent_.pop_back();
    }
  }
}

std::size_t PrefixIndex::size() const {
  const MutexLock lock(mutex_);
  return entries_.size();
}

}  // namespace yangtuo::gateway
