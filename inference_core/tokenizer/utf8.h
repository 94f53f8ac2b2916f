#pragma once

#include <cstddef>
#include <string_view>

namespace yangtuo {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// What the front of some bytes is, by the rules of Unicode (no surrogates, no overlong forms).
struct Utf8Front {
  std::size_t num_bytes = 0;  // of the character in front; 0 when there is no whole one
  bool may_complete = false;  // no whole one yet, but more bytes may make it one
};

// `bytes` is not empty.
[[nodiscard]] Utf8Front InspectUtf8(std::string_view bytes);

[[nodiscard]] bool IsValidUtf8(std::string_view bytes);

}  // namespace yangtuo
