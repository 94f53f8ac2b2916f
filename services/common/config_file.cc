#include "services/common/config_file.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/utf8.h"

namespace yangtuo {
namespace {

bool IsKeyCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

void AppendUtf8(std::uint32_t code, std::string& out) {
  const auto put = [&out](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | (code >> 6));
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | (code >> 12));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | (code >> 18));
    put(0x80 | ((code >> 12) & 0x3F));
    put(0x80 | ((code >> 6) & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

class Parser {
 public:
  Parser(std::string_view name, std::string_view text) : name_(name), text_(text) {}

  absl::StatusOr<std::vector<ConfigEntry>> Parse() {
    std::vector<ConfigEntry> entries;
    std::set<std::string> keys;
    for (SkipBlankLines(); !text_.empty(); SkipBlankLines()) {
      ConfigEntry entry;
      entry.line = line_;
      YANGTUO_ASSIGN_OR_RETURN(entry.key, ParseKey());
      if (!keys.insert(entry.key).second) {
        return absl::InvalidArgumentError(absl::StrFormat(
            "%s:%d: the key \"%s\" appears a second time", name_, line_, entry.key));
      }
      SkipSpaces();
      if (!Take('=')) {
        return Expected("\"=\" after the key");
      }
      SkipSpaces();
      entry.is_array = Next() == '[';
      if (entry.is_array) {
        YANGTUO_ASSIGN_OR_RETURN(entry.values, ParseArray());
      } else {
        YANGTUO_ASSIGN_OR_RETURN(std::string value, ParseScalar());
        entry.values.push_back(std::move(value));
      }
      YANGTUO_RETURN_IF_ERROR(EndLine());
      entries.push_back(std::move(entry));
    }
    return entries;
  }

 private:
  [[nodiscard]] char Next() const { return text_.empty() ? '\0' : text_.front(); }

  char Pop() {
    const char c = text_.front();
    line_ += c == '\n' ? 1 : 0;
    text_.remove_prefix(1);
    return c;
  }

  bool Take(char c) {
    if (Next() != c || text_.empty()) {
      return false;
    }
    Pop();
    return true;
  }

  void SkipSpaces() {
    while (Next() == ' ' || Next() == '\t') {
      Pop();
    }
  }

  void SkipComment() {
    if (Next() == '#') {
      while (!text_.empty() && Next() != '\n') {
        Pop();
      }
    }
  }

  void SkipBlankLines() {
    while (true) {
      SkipSpaces();
      SkipComment();
      if (!Take('\n') && !Take('\r')) {
        return;
      }
    }
  }

  [[nodiscard]] absl::Status Expected(std::string_view what) const {
    const std::string_view rest = text_.substr(0, text_.find('\n'));
    return absl::InvalidArgumentError(
        absl::StrFormat("%s:%d: expected %s, found %s", name_, line_, what,
                        rest.empty() ? "the end of the line" : TomlString(rest.substr(0, 40))));
  }

  absl::StatusOr<std::string> ParseKey() {
    if (Next() == '[') {
      return Expected("key = value (this file has no tables)");
    }
    if (Next() == '"' || Next() == '\'') {
      return ParseString(Pop());
    }
    std::string key;
    while (IsKeyCharacter(Next())) {
      key += Pop();
    }
    if (key.empty()) {
      return Expected("a key of letters, digits, \"-\" and \"_\"");
    }
    return key;
  }

  absl::StatusOr<std::string> ParseScalar() {
    if (Next() == '"' || Next() == '\'') {
      return ParseString(Pop());
    }
    const std::size_t end = std::min(text_.find_first_of(" \t\r\n,]#"), text_.size());
    const std::string_view literal = text_.substr(0, end);
    if (!IsTomlLiteral(literal)) {
      return Expected("a value: \"text\", a number, true, false or [list]");
    }
    text_.remove_prefix(end);
    std::string value(literal);
    // TOML allows 1_000; the flags do not.
    value.erase(std::remove(value.begin(), value.end(), '_'), value.end());
    return value;
  }

  absl::StatusOr<std::string> ParseString(char quote) {
    std::string value;
    while (!Take(quote)) {
      if (text_.empty() || Next() == '\n') {
        return Expected("the closing quote of a string on the same line");
      }
      const char c = Pop();
      if (c == '\\' && quote == '"') {
        YANGTUO_RETURN_IF_ERROR(ParseEscape(value));
      } else {
        value += c;
      }
    }
    return value;
  }

  absl::Status ParseEscape(std::string& value) {
    static constexpr std::string_view names = "btnfr\"\\";
    static constexpr std::string_view meanings = "\b\t\n\f\r\"\\";
    if (const std::size_t i = names.find(Next()); i != std::string_view::npos && Next() != '\0') {
      Pop();
      value += meanings[i];
      return absl::OkStatus();
    }
    const std::size_t digits = Next() == 'u' ? 4 : Next() == 'U' ? 8 : 0;
    std::uint32_t code = 0;
    if (digits == 0 || text_.size() <= digits ||
        !absl::SimpleHexAtoi(std::string(text_.substr(1, digits)), &code) || code > 0x10FFFF ||
        (code >= 0xD800 && code <= 0xDFFF)) {
      return Expected("an escape such as \\n, \\\" or \\u7f8a");
    }
    text_.remove_prefix(1 + digits);
    AppendUtf8(code, value);
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> ParseArray() {
    std::vector<std::string> values;
    Pop();
    for (SkipBlankLines(); !Take(']'); SkipBlankLines()) {
      YANGTUO_ASSIGN_OR_RETURN(std::string value, ParseScalar());
      values.push_back(std::move(value));
      SkipBlankLines();
      if (!Take(',') && Next() != ']') {
        return Expected("\",\" or \"]\" after a value of a list");
      }
    }
    return values;
  }

  absl::Status EndLine() {
    SkipSpaces();
    SkipComment();
    Take('\r');
    if (!text_.empty() && !Take('\n')) {
      return Expected("the end of the line after the value");
    }
    return absl::OkStatus();
  }

  const std::string_view name_;
  std::string_view text_;
  int line_ = 1;
};

std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) {
    row[j] = j;
  }
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

absl::StatusOr<std::vector<ConfigEntry>> ParseConfigFile(std::string_view name,
                                                         std::string_view text) {
  return Parser(name, text).Parse();
}

std::string TomlString(std::string_view value) {
  std::string out = "\"";
  for (const char c : ToValidUtf8(value, value.size() * 3)) {
    if (c == '"' || c == '\\') {
      out += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      out += absl::StrFormat("\\u%04x", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + '"';
}

bool IsTomlLiteral(std::string_view value) {
  if (value == "true" || value == "false") {
    return true;
  }
  if (value.empty() ||
      value.find_first_not_of("0123456789+-._eExXabcdefABCDEF") != std::string_view::npos) {
    return false;
  }
  std::string digits(value);
  digits.erase(std::remove(digits.begin(), digits.end(), '_'), digits.end());
  double number = 0;
  std::uint64_t hexadecimal = 0;
  return absl::SimpleAtod(digits, &number) ||
         (digits.rfind("0x", 0) == 0 && absl::SimpleHexAtoi(digits, &hexadecimal));
}

std::string NearestName(std::string_view name, const std::vector<std::string>& names) {
  std::string nearest;
  std::size_t smallest = std::max<std::size_t>(2, name.size() / 2) + 1;
  for (const std::string& candidate : names) {
    const std::size_t distance = EditDistance(name, candidate);
    if (distance < smallest) {
      smallest = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace yangtuo
