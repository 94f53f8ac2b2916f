#include "services/common/utf8.h"

namespace yangtuo {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// The bounds of the second byte reject overlong forms, surrogates and what lies beyond U+10FFFF
// (Unicode 15, table 3-7).
struct Lead {
  std::size_t length = 0;
  unsigned char second_low = 0x80;
  unsigned char second_high = 0xBF;
};

Lead LeadOf(unsigned char byte) {
  if (byte < 0x80) {
    return {.length = 1};
  }
  if (byte >= 0xC2 && byte <= 0xDF) {
    return {.length = 2};
  }
  if (byte >= 0xE0 && byte <= 0xEF) {
    return {.length = 3,
            .second_low = static_cast<unsigned char>(byte == 0xE0 ? 0xA0 : 0x80),
            .second_high = static_cast<unsigned char>(byte == 0xED ? 0x9F : 0xBF)};
  }
  if (byte >= 0xF0 && byte <= 0xF4) {
    return {.length = 4,
            .second_low = static_cast<unsigned char>(byte == 0xF0 ? 0x90 : 0x80),
            .second_high = static_cast<unsigned char>(byte == 0xF4 ? 0x8F : 0xBF)};
  }
  return {};
}

}  // namespace

std::size_t Utf8CharacterLength(std::string_view text) {
  if (text.empty()) {
    return 0;
  }
  const Lead lead = LeadOf(static_cast<unsigned char>(text[0]));
  if (lead.length > text.size()) {
    return 0;
  }
  for (std::size_t i = 1; i < lead.length; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const unsigned char low = i == 1 ? lead.second_low : 0x80;
    const unsigned char high = i == 1 ? lead.second_high : 0xBF;
    if (byte < low || byte > high) {
      return 0;
    }
  }
  return lead.length;
}

std::string ToValidUtf8(std::string_view text, std::size_t max_bytes) {
  std::string valid;
  while (!text.empty()) {
    const std::size_t length = Utf8CharacterLength(text);
    const std::string_view character = length == 0 ? kReplacement : text.substr(0, length);
    if (valid.size() + character.size() > max_bytes) {
      break;
    }
    valid += character;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return valid;
}

}  // namespace yangtuo
