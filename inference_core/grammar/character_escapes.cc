#include "inference_core/grammar/character_escapes.h"

#include <cstddef>

#include "inference_core/grammar/code_points.h"

namespace yangtuo {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  if (c >= 'a' && c <= 'f') {
    return c - 'a' + 10;
  }
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::optional<std::uint32_t> TakeHex(std::string_view& text, std::size_t digits) {
  if (digits == 0 || digits > 8 || text.size() < digits) {
    return std::nullopt;
  }
  std::uint32_t value = 0;
  for (const char c : text.substr(0, digits)) {
    const int digit = HexValue(c);
    if (digit < 0) {
      return std::nullopt;
    }
    value = value << 4U | static_cast<std::uint32_t>(digit);
  }
  text.remove_prefix(digits);
  return value;
}

bool IsSurrogate(std::uint32_t value, std::uint32_t first) {
  return value >= first && value < first + 0x400;
}

// After "\u".
std::optional<std::uint32_t> TakeUnicode(std::string_view& text) {
  if (!text.empty() && text[0] == '{') {
    const std::size_t end = text.find('}');
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
    text.remove_prefix(1);
    const std::optional<std::uint32_t> value = TakeHex(text, end - 1);
    if (value.has_value()) {
      text.remove_prefix(1);
    }
    return value;
  }
  const std::optional<std::uint32_t> value = TakeHex(text, 4);
  if (!value.has_value() || !IsSurrogate(*value, 0xD800) || text.substr(0, 2) != "\\u") {
    return value;
  }
  text.remove_prefix(2);
  const std::optional<std::uint32_t> low = TakeHex(text, 4);
  if (!low.has_value() || !IsSurrogate(*low, 0xDC00)) {
    return std::nullopt;
  }
  return 0x10000 + ((*value - 0xD800) << 10U) + (*low - 0xDC00);
}

std::optional<std::uint32_t> TakeAfterBackslash(std::string_view& text) {
  if (text.empty()) {
    return std::nullopt;
  }
  const char c = text[0];
  text.remove_prefix(1);
  switch (c) {
    case 't':
      return '\t';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case '0':
      return text.empty() || text[0] < '0' || text[0] > '9' ? std::optional<std::uint32_t>(0)
                                                            : std::nullopt;  // octal
    case 'x':
      return TakeHex(text, 2);
    case 'u':
      return TakeUnicode(text);
    case 'U':
      return TakeHex(text, 8);
    default:
      break;
  }
  const bool is_punctuation = c >= ' ' && c <= '~' && !(c >= '0' && c <= '9') &&
                              !(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z');
  return is_punctuation ? std::optional<std::uint32_t>(static_cast<std::uint32_t>(c))
                        : std::nullopt;
}

}  // namespace

std::optional<std::uint32_t> TakeEscape(std::string_view& text) {
  std::string_view rest = text.substr(1);
  const std::optional<std::uint32_t> one = TakeAfterBackslash(rest);
  if (!one.has_value() || *one > kLastCodePoint || IsSurrogate(*one, 0xD800) ||
      IsSurrogate(*one, 0xDC00)) {
    return std::nullopt;
  }
  text = rest;
  return one;
}

std::optional<char> HexByte(std::string_view text) {
  const std::optional<std::uint32_t> value = TakeHex(text, 2);
  return value.has_value() ? std::optional<char>(static_cast<char>(*value)) : std::nullopt;
}

}  // namespace yangtuo
