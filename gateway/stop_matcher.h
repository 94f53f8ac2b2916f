#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace yangtuo::gateway {

// Finds the first stop string in a text that arrives in parts, and holds back exactly those bytes
// at its end that could still become one. Not thread-safe.
//
// "First" is the one whose last byte comes first, and of several that end there the longest: both
// are known the moment that byte arrives, so the result does not depend on how the text was cut.
// Parts and stop strings are whole UTF-8 characters; then so is everything that is released,
// because a stop string can begin only where a character begins.
class StopMatcher {
 public:
  // Empty stop strings are ignored.
  explicit StopMatcher(const std::vector<std::string>& stop_strings);

  // Appends to `released` what is now certain to be part of the text. True when a stop string was
  // found: the text is complete then and later calls add nothing.
  bool Push(std::string_view text, std::string& released);
  // The text ends here: releases what was held back.
  void Finish(std::string& released);

  [[nodiscard]] const std::optional<std::string>& found() const { return found_; }

 private:
  // A Knuth-Morris-Pratt automaton: `matched` bytes at the end of the text are a prefix of
  // `string`; `fallback[i]` is the longest proper border of its first i + 1 bytes.
  struct Pattern {
    std::string string;
    std::vector<std::size_t> fallback;
    std::size_t matched = 0;
  };

  static void Step(Pattern& pattern, char byte);

  std::vector<Pattern> patterns_;
  std::string held_;
  std::optional<std::string> found_;
};

}  // namespace yangtuo::gateway
