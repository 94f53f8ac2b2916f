#include "gateway/utf8.h"

#include <cstddef>
#include <cstdint>

namespace yangtuo::gateway {
namespace {

struct Sequence {
  std::size_t length;  // bytes of the character, or of the ill-formed part
  bool valid;
};

// What the table 3-7 of the Unicode standard allows after a first byte.
struct FirstByte {
  std::size_t length = 0;  // 0: can not begin a character
  std::uint8_t second_low = 0x80;
  std::uint8_t second_high = 0xBF;
};

FirstByte Classify(std::uint8_t byte) {
  if (byte < 0x80) {
    return {.length = 1};
  }
  if (byte < 0xC2 || byte > 0xF4) {
    return {};
  }
  if (byte < 0xE0) {
    return {.length = 2};
  }
  if (byte < 0xF0) {
    return {.length = 3,
            .second_low = static_cast<std::uint8_t>(byte == 0xE0 ? 0xA0 : 0x80),
            .second_high = static_cast<std::uint8_t>(byte == 0xED ? 0x9F : 0xBF)};
  }
  return {.length = 4,
          .second_low = static_cast<std::uint8_t>(byte == 0xF0 ? 0x90 : 0x80),
          .second_high = static_cast<std::uint8_t>(byte == 0xF4 ? 0x8F : 0xBF)};
}

// The character or ill-formed part at the start of `bytes`, which is not empty.
Sequence Next(std::string_view bytes) {
  const FirstByte first = Classify(static_cast<std::uint8_t>(bytes[0]));
  if (first.length == 0) {
    return {.length = 1, .valid = false};
  }
  for (std::size_t i = 1; i < first.length; ++i) {
    const std::uint8_t low = i == 1 ? first.second_low : 0x80;
    const std::uint8_t high = i == 1 ? first.second_high : 0xBF;
    if (i >= bytes.size() || static_cast<std::uint8_t>(bytes[i]) < low ||
        static_cast<std::uint8_t>(bytes[i]) > high) {
      return {.length = i, .valid = false};
    }
  }
  return {.length = first.length, .valid = true};
}

}  // namespace

bool IsUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Sequence next = Next(bytes);
    if (!next.valid) {
      return false;
    }
    bytes.remove_prefix(next.length);
  }
  return true;
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const Sequence next = Next(bytes);
    text.append(next.valid ? bytes.substr(0, next.length) : std::string_view("\xEF\xBF\xBD"));
    bytes.remove_prefix(next.length);
  }
  return text;
}

}  // namespace yangtuo::gateway
