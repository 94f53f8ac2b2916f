#include "tools/common/text_width.h"

#include <algorithm>
#include <cstdint>
#include <locale.h>
#include <wchar.h>

#include "services/common/utf8.h"

namespace yangtuo {
namespace {

// wcwidth() asks the thread's locale, which is "C" unless somebody sets it; this one is built into
// the C library.
class Utf8LocaleScope {
 public:
  Utf8LocaleScope()
      : locale_(newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr)),
        previous_(locale_ == nullptr ? nullptr : uselocale(locale_)) {}
  ~Utf8LocaleScope() {
    if (locale_ != nullptr) {
      uselocale(previous_);
      freelocale(locale_);
    }
  }
  Utf8LocaleScope(const Utf8LocaleScope&) = delete;
  Utf8LocaleScope& operator=(const Utf8LocaleScope&) = delete;

 private:
  locale_t locale_;
  locale_t previous_;
};

// Of one well-formed character.
wchar_t CodePoint(std::string_view character) {
  const auto first = static_cast<std::uint8_t>(character[0]);
  if (character.size() == 1) {
    return first;
  }
  std::uint32_t code_point = first & (0x7Fu >> character.size());
  for (const char byte : character.substr(1)) {
    code_point = (code_point << 6) | (static_cast<std::uint8_t>(byte) & 0x3Fu);
  }
  return static_cast<wchar_t>(code_point);
}

FirstChar LookInScope(std::string_view text) {
  if (text.empty()) {
    return {};
  }
  const std::size_t size_bytes = Utf8CharacterLength(text);
  if (size_bytes == 0) {
    return {.size_bytes = 1, .columns = 1};
  }
  return {.size_bytes = size_bytes,
          .columns = std::max(0, wcwidth(CodePoint(text.substr(0, size_bytes))))};
}

}  // namespace

FirstChar LookAtFirstChar(std::string_view text) {
  const Utf8LocaleScope scope;
  return LookInScope(text);
}

int TextWidth(std::string_view text) {
  const Utf8LocaleScope scope;
  int columns = 0;
  while (!text.empty()) {
    const FirstChar first = LookInScope(text);
    columns += first.columns;
    text.remove_prefix(first.size_bytes);
  }
  return columns;
}

std::string CutToWidth(std::string_view text, int columns) {
  if (TextWidth(text) <= columns) {
    return std::string(text);
  }
  if (columns < 1) {
    return "";
  }
  const Utf8LocaleScope scope;
  int width = 0;
  std::size_t end = 0;
  while (true) {
    const FirstChar next = LookInScope(text.substr(end));
    width += next.columns;
    if (width > columns - 1) {
      return std::string(text.substr(0, end)) + "…";
    }
    end += next.size_bytes;
  }
}

std::optional<std::size_t> FindInvalidUtf8(std::string_view text) {
  std::size_t offset = 0;
  while (offset < text.size()) {
    const std::size_t size_bytes = Utf8CharacterLength(text.substr(offset));
    if (size_bytes == 0) {
      return offset;
    }
    offset += size_bytes;
  }
  return std::nullopt;
}

}  // namespace yangtuo
