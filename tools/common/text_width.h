#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace yangtuo {

// How UTF-8 text looks on a terminal: its first character, with a malformed byte counted as one
// character of one column.
struct FirstChar {
  std::size_t size_bytes = 0;  // 0: the text is empty
  int columns = 0;             // 2 for Chinese characters, 0 for combining marks
};
FirstChar LookAtFirstChar(std::string_view text);

// Columns of the whole text.
int TextWidth(std::string_view text);

// The text cut to at most `columns` columns, ending in "…" when something was cut.
std::string CutToWidth(std::string_view text, int columns);

// Offset of the first byte that is not well-formed UTF-8; empty when all of it is.
std::optional<std::size_t> FindInvalidUtf8(std::string_view text);

}  // namespace yangtuo
