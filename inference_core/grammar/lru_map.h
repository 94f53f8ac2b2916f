#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <unordered_map>
#include <utility>

namespace yangtuo {

// A map that knows which entry was used least recently. Not thread-safe.
template <typename Key, typename Value, typename Hash = std::hash<Key>>
class LruMap {
 public:
  // Null when there is none; valid until the next change.
  [[nodiscard]] Value* Find(const Key& key) {
    const auto found = entries_.find(key);
    if (found == entries_.end()) {
      return nullptr;
    }
    order_.splice(order_.begin(), order_, found->second);
    return &found->second->second;
  }

  // `key` is not there yet.
  void Insert(Key key, Value value) {
    order_.emplace_front(std::move(key), std::move(value));
    entries_.emplace(order_.front().first, order_.begin());
  }

  // Takes out the value used least recently. There is one.
  Value RemoveOldest() {
    Value value = std::move(order_.back().second);
    entries_.erase(order_.back().first);
    order_.pop_back();
    return value;
  }

  [[nodiscard]] std::size_t size() const { return order_.size(); }

 private:
  using Entry = std::pair<Key, Value>;
  std::list<Entry> order_;  // most recently used first
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash> entries_;
};

}  // namespace yangtuo
