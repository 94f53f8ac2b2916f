#include "inference_core/grammar/schema_place.h"

#include "absl/strings/str_format.h"
#include "inference_core/grammar/character_escapes.h"

namespace yangtuo {
namespace {

constexpr std::size_t kLongestPlace = 300;

}  // namespace

SchemaPlace SchemaPlace::Below(std::string_view key) const {
  std::string text = text_ + "/";
  for (const char c : key) {
    text += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  }
  return SchemaPlace(std::move(text));
}

absl::Status SchemaPlace::Fault(std::string_view what) const {
  std::string place = text_;
  if (place.size() > kLongestPlace) {
    // Not inside a character.
    std::size_t end = kLongestPlace;
    while (end > 0 && (static_cast<unsigned char>(place[end]) & 0xC0U) == 0x80U) {
      --end;
    }
    place.resize(end);
    place += "...";
  }
  return absl::InvalidArgumentError(absl::StrFormat("JSON schema, at '%s': %s", place, what));
}

absl::StatusOr<std::vector<std::string>> PathOf(std::string_view reference) {
  if (reference.empty() || reference[0] != '#' || (reference.size() > 1 && reference[1] != '/')) {
    return absl::InvalidArgumentError(
        "'$ref' is supported within the document only: \"#\" or \"#/...\"");
  }
  std::vector<std::string> path;
  for (std::size_t i = 1; i < reference.size(); ++i) {
    if (reference[i] == '/') {
      path.emplace_back();
    } else if (reference[i] == '~' && i + 1 < reference.size() &&
               (reference[i + 1] == '0' || reference[i + 1] == '1')) {
      path.back() += reference[++i] == '0' ? '~' : '/';
    } else if (reference[i] == '%' && HexByte(reference.substr(i + 1)).has_value()) {
      path.back() += *HexByte(reference.substr(i + 1));
      i += 2;
    } else {
      path.back() += reference[i];
    }
  }
  return path;
}

}  // namespace yangtuo
