#include "inference_core/tokenizer/utf8.h"

#include <algorithm>
#include <cstdint>

namespace yangtuo {
namespace {

// Table 3-7 of the Unicode standard: how long a character is, and the range of its second byte,
// which alone excludes overlong forms, surrogates and code points above U+10FFFF.
struct LeadByte {
  std::size_t num_bytes;
  std::uint8_t second_min;
  std::uint8_t second_max;
};

LeadByte Classify(std::uint8_t lead) {
  if (lead < 0x80) {
    return {1, 0, 0};
  }
  if (lead >= 0xC2 && lead <= 0xDF) {
    return {2, 0x80, 0xBF};
  }
  if (lead >= 0xE0 && lead <= 0xEF) {
    return {3, static_cast<std::uint8_t>(lead == 0xE0 ? 0xA0 : 0x80),
            static_cast<std::uint8_t>(lead == 0xED ? 0x9F : 0xBF)};
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    return {4, static_cast<std::uint8_t>(lead == 0xF0 ? 0x90 : 0x80),
            static_cast<std::uint8_t>(lead == 0xF4 ? 0x8F : 0xBF)};
  }
  return {0, 0, 0};
}

}  // namespace

Utf8Front InspectUtf8(std::string_view bytes) {
  const LeadByte lead = Classify(static_cast<std::uint8_t>(bytes[0]));
  const std::size_t present = std::min(bytes.size(), lead.num_bytes);
  for (std::size_t i = 1; i < present; ++i) {
    const auto byte = static_cast<std::uint8_t>(bytes[i]);
    const std::uint8_t min = i == 1 ? lead.second_min : 0x80;
    const std::uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) {
      return {};
    }
  }
  if (present < lead.num_bytes) {
    return {.num_bytes = 0, .may_complete = true};
  }
  return {.num_bytes = lead.num_bytes, .may_complete = false};
}

bool IsValidUtf8(std::string_view bytes) {
  while (!bytes.empty()) {
    const Utf8Front front = InspectUtf8(bytes);
    if (front.num_bytes == 0) {
      return false;
    }
    bytes.remove_prefix(front.num_bytes);
  }
  return true;
}

}  // namespace yangtuo
