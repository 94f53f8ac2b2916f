#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace yangtuo {

// Length of the valid UTF-8 character at the start of `text`; 0 when there is none (also for an
// empty text).
std::size_t Utf8CharacterLength(std::string_view text);

// `text` with every byte that is not part of a valid UTF-8 character replaced by U+FFFD, cut before
// the first character that would make it longer than `max_bytes`.
std::string ToValidUtf8(std::string_view text, std::size_t max_bytes);

}  // namespace yangtuo
