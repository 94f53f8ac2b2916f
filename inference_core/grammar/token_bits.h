#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// A set of token ids below `size`, one bit each.
class TokenBits {
 public:
  TokenBits() = default;
  explicit TokenBits(std::int32_t size)
      : size_(size), words_((static_cast<std::size_t>(size) + 63) / 64) {}

  [[nodiscard]] std::int32_t size() const { return size_; }
  // False outside 0..size-1.
  [[nodiscard]] bool Contains(TokenId id) const {
    return id >= 0 && id < size_ && (words_[Word(id)] >> Bit(id) & 1U) != 0;
  }
  // `id` is inside.
  void Add(TokenId id) { words_[Word(id)] |= std::uint64_t{1} << Bit(id); }

  [[nodiscard]] std::int32_t Count() const {
    std::int32_t count = 0;
    for (const std::uint64_t word : words_) {
      count += std::popcount(word);
    }
    return count;
  }
  [[nodiscard]] bool IsEmpty() const {
    for (const std::uint64_t word : words_) {
      if (word != 0) {
        return false;
      }
    }
    return true;
  }

  // Bit i of word w is id 64 * w + i; bits beyond `size` are 0.
  [[nodiscard]] std::span<const std::uint64_t> words() const { return words_; }

  bool operator==(const TokenBits&) const = default;

 private:
  static std::size_t Word(TokenId id) { return static_cast<std::size_t>(id) / 64; }
  static unsigned Bit(TokenId id) { return static_cast<unsigned>(id) % 64; }

  std::int32_t size_ = 0;
  std::vector<std::uint64_t> words_;
};

}  // namespace yangtuo
