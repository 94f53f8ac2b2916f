#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace yangtuo {

// Takes an escape that stands for one character, backslash included, off `text`: \t \n \r \f \v
// \0, \xHH, \uHHHH (also a pair of surrogates), \u{H...}, \UHHHHHHHH, and any ASCII character that
// is neither letter nor digit. Nullopt, with `text` as it was, for anything else.
[[nodiscard]] std::optional<std::uint32_t> TakeEscape(std::string_view& text);

// The byte that the first two hexadecimal digits of `text` say; nullopt where there are none.
[[nodiscard]] std::optional<char> HexByte(std::string_view text);

}  // namespace yangtuo
