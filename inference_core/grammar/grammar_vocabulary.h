#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// The texts of a vocabulary, in the order in which an automaton can try them all at once: a trie
// of bytes, flattened depth first. Immutable, thread-safe. 16 bytes a trie node.
class GrammarVocabulary {
 public:
  // `texts`: the bytes that each id adds to a text, a leading space kept. An empty one is never
  // allowed by a grammar: control tokens, the end of text, ids that decode to nothing.
  explicit GrammarVocabulary(std::vector<std::string> texts);

  [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(texts_.size()); }
  [[nodiscard]] bool Contains(TokenId id) const { return id >= 0 && id < size(); }
  // `id` is inside.
  [[nodiscard]] std::string_view text(TokenId id) const {
    return texts_[static_cast<std::size_t>(id)];
  }
  // Whether each of the 256 bytes is a token of its own, as in LLaMA's vocabularies. Without them a
  // text may come to a place where no token fits (GrammarMatcher::IsStuck).
  [[nodiscard]] bool has_all_bytes() const { return has_all_bytes_; }
  // Tells vocabularies apart within this process.
  [[nodiscard]] std::uint64_t serial() const { return serial_; }

  // One node of the trie; the root is not one. Children follow their parent.
  struct Node {
    std::uint32_t end = 0;          // the first node after this one's subtree
    std::uint32_t first_token = 0;  // into tokens(); up to the next node's
    std::uint32_t depth = 0;        // bytes before this one
    std::uint8_t byte = 0;
  };
  // In depth-first order, with one more at the end whose `first_token` closes the last.
  [[nodiscard]] std::span<const Node> nodes() const { return nodes_; }
  [[nodiscard]] std::span<const TokenId> tokens() const { return tokens_; }
  [[nodiscard]] std::size_t longest_text() const { return longest_text_; }

 private:
  std::vector<std::string> texts_;
  std::vector<Node> nodes_;
  std::vector<TokenId> tokens_;
  std::size_t longest_text_ = 0;
  bool has_all_bytes_ = false;
  std::uint64_t serial_ = 0;
};

}  // namespace yangtuo
