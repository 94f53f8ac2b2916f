#include "inference_core/grammar/grammar_vocabulary.h"

#include <algorithm>
#include <atomic>
#include <bitset>
#include <numeric>
#include <utility>

namespace yangtuo {
namespace {

std::uint64_t NextSerial() {
  static std::atomic<std::uint64_t> last{0};
  return ++last;
}

}  // namespace

GrammarVocabulary::GrammarVocabulary(std::vector<std::string> texts)
    : texts_(std::move(texts)), serial_(NextSerial()) {
  tokens_.resize(texts_.size());
  std::iota(tokens_.begin(), tokens_.end(), 0);
  std::erase_if(tokens_, [&](TokenId id) { return text(id).empty(); });
  // string_view compares bytes as unsigned: the order of a walk through the trie.
  std::stable_sort(tokens_.begin(), tokens_.end(),
                   [&](TokenId a, TokenId b) { return text(a) < text(b); });

  std::bitset<256> bytes;
  std::vector<std::size_t> path;  // nodes of the text before, one a byte
  std::string_view before;
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    const std::string_view now = text(tokens_[i]);
    longest_text_ = std::max(longest_text_, now.size());
    if (now.size() == 1) {
      bytes.set(static_cast<std::uint8_t>(now[0]));
    }
    const auto common = static_cast<std::size_t>(
        std::mismatch(now.begin(), now.end(), before.begin(), before.end()).first - now.begin());
    for (; path.size() > common; path.pop_back()) {
      nodes_[path.back()].end = static_cast<std::uint32_t>(nodes_.size());
    }
    for (std::size_t depth = common; depth < now.size(); ++depth) {
      path.push_back(nodes_.size());
      nodes_.push_back({.first_token = static_cast<std::uint32_t>(i),
                        .depth = static_cast<std::uint32_t>(depth),
                        .byte = static_cast<std::uint8_t>(now[depth])});
    }
    before = now;
  }
  for (const std::size_t node : path) {
    nodes_[node].end = static_cast<std::uint32_t>(nodes_.size());
  }
  nodes_.push_back({.first_token = static_cast<std::uint32_t>(tokens_.size())});
  has_all_bytes_ = bytes.all();
}

}  // namespace yangtuo
