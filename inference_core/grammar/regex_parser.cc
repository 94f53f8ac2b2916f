#include "inference_core/grammar/regex_parser.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/character_escapes.h"

namespace yangtuo {
namespace {

constexpr int kDeepest = 100;
constexpr std::size_t kLongest = 64 << 10;
constexpr std::int32_t kMostRepetitions = 10'000;

CodePoints Digits() { return {'0', '9'}; }

CodePoints WordCharacters() {
  CodePoints set = Digits();
  set.Add('A', 'Z');
  set.Add('a', 'z');
  set.Add('_', '_');
  return set;
}

// ECMAScript's white space and line ends.
CodePoints Spaces() {
  CodePoints set{'\t', '\r'};
  for (const std::uint32_t one :
       {0x20U, 0xA0U, 0x1680U, 0x2028U, 0x2029U, 0x202FU, 0x205FU, 0x3000U, 0xFEFFU}) {
    set.Add(one, one);
  }
  set.Add(0x2000, 0x200A);
  return set;
}

CodePoints LineEnds() {
  CodePoints set{'\n', '\n'};
  set.Add('\r', '\r');
  set.Add(0x2028, 0x2029);
  return set;
}

class RegexParser {
 public:
  RegexParser(std::string_view text, const RegexOptions& options, Expressions& expressions)
      : text_(text), rest_(text), options_(options), expressions_(expressions) {}

  absl::StatusOr<ExpressionId> Parse() {
    if (text_.size() > kLongest) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "regular expression of %d bytes: at most %d are supported", text_.size(), kLongest));
    }
    std::vector<ExpressionId> alternatives;
    do {
      YANGTUO_ASSIGN_OR_RETURN(const ExpressionId alternative, OuterAlternative());
      alternatives.push_back(alternative);
    } while (Take('|'));
    if (!rest_.empty()) {
      return Fault("')' without '('");
    }
    return expressions_.Choice(std::move(alternatives));
  }

 private:
  absl::Status Fault(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrFormat("regular expression, at byte %d: %s", text_.size() - rest_.size(), what));
  }

  bool Take(char c) {
    if (rest_.empty() || rest_[0] != c) {
      return false;
    }
    rest_.remove_prefix(1);
    return true;
  }
  bool TakeAll(std::string_view literal) {
    if (rest_.substr(0, literal.size()) != literal) {
      return false;
    }
    rest_.remove_prefix(literal.size());
    return true;
  }

  ExpressionId Write(const CodePoints& set) {
    return options_.write ? options_.write(set) : expressions_.Characters(set);
  }

  absl::StatusOr<ExpressionId> OuterAlternative() {
    const bool at_begin = Take('^');
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId middle, Sequence(0));
    const bool at_end = Take('$');
    if (at_end && !rest_.empty() && rest_[0] != '|') {
      return Fault("'$' is supported only where the expression ends");
    }
    if (options_.match == RegexOptions::Match::kWhole) {
      return middle;
    }
    const ExpressionId any = expressions_.Repeat(Write(CodePoints::All()), 0, -1);
    return expressions_.Sequence(
        {at_begin ? expressions_.Empty() : any, middle, at_end ? expressions_.Empty() : any});
  }

  // Up to '|', ')' or the end; in the outermost level also up to '$'.
  absl::StatusOr<ExpressionId> Sequence(int depth) {
    std::vector<ExpressionId> parts;
    while (!rest_.empty() && rest_[0] != '|' && rest_[0] != ')' &&
           !(depth == 0 && rest_[0] == '$')) {
      YANGTUO_RETURN_IF_ERROR(expressions_.CheckNotFull());
      YANGTUO_ASSIGN_OR_RETURN(ExpressionId part, Atom(depth));
      YANGTUO_ASSIGN_OR_RETURN(part, Repeated(part));
      parts.push_back(part);
    }
    return expressions_.Sequence(std::move(parts));
  }

  absl::StatusOr<ExpressionId> Atom(int depth) {
    switch (rest_[0]) {
      case '(':
        return Group(depth + 1);
      case '[': {
        YANGTUO_ASSIGN_OR_RETURN(const CodePoints set, Class());
        return Write(set);
      }
      case '.':
        rest_.remove_prefix(1);
        return Write(LineEnds().Inverse());
      case '\\': {
        YANGTUO_ASSIGN_OR_RETURN(const CodePoints set, Escape());
        return Write(set);
      }
      case '^':
      case '$':
        return Fault("'^' and '$' are supported only where the expression begins and ends");
      case '*':
      case '+':
      case '?':
        return Fault("nothing to repeat");
      case '{':
        return Fault("nothing to repeat (a literal '{' is written '\\{')");
      default: {
        YANGTUO_ASSIGN_OR_RETURN(const std::uint32_t one, Character());
        return Write({one, one});
      }
    }
  }

  absl::StatusOr<std::uint32_t> Character() {
    const std::optional<std::uint32_t> one = TakeCodePoint(rest_);
    if (!one.has_value()) {
      return Fault("not UTF-8");
    }
    return *one;
  }

  absl::StatusOr<ExpressionId> Group(int depth) {
    if (depth > kDeepest) {
      return Fault(absl::StrFormat("groups nested more than %d deep", kDeepest));
    }
    for (const std::string_view look : {"(?=", "(?!", "(?<=", "(?<!"}) {
      if (rest_.substr(0, look.size()) == look) {
        return Fault("look-around is not supported");
      }
    }
    if (TakeAll("(?<") || TakeAll("(?P<")) {
      const std::size_t end = rest_.find('>');
      if (end == 0 || end == std::string_view::npos) {
        return Fault("a group's name without '>'");
      }
      rest_.remove_prefix(end + 1);
    } else if (!TakeAll("(?:")) {
      if (rest_.substr(0, 2) == "(?") {
        return Fault("flags and special groups are not supported");
      }
      (void)Take('(');
    }
    std::vector<ExpressionId> alternatives;
    do {
      YANGTUO_ASSIGN_OR_RETURN(const ExpressionId alternative, Sequence(depth));
      alternatives.push_back(alternative);
    } while (Take('|'));
    if (!Take(')')) {
      return Fault("'(' without ')'");
    }
    return expressions_.Choice(std::move(alternatives));
  }

  absl::StatusOr<ExpressionId> Repeated(ExpressionId part) {
    if (rest_.empty()) {
      return part;
    }
    std::int32_t low = 0;
    std::int32_t high = -1;
    if (Take('*')) {
    } else if (Take('+')) {
      low = 1;
    } else if (Take('?')) {
      high = 1;
    } else if (Take('{')) {
      YANGTUO_ASSIGN_OR_RETURN(low, Count());
      high = low;
      if (Take(',')) {
        high = -1;
        if (!rest_.empty() && rest_[0] != '}') {
          YANGTUO_ASSIGN_OR_RETURN(high, Count());
        }
      }
      if (!Take('}')) {
        return Fault("expected '}' after a repetition count (a literal '{' is written '\\{')");
      }
      if (high >= 0 && high < low) {
        return Fault("a repetition's largest count is below its smallest");
      }
    } else {
      return part;
    }
    (void)Take('?');  // lazy: the same texts
    if (!rest_.empty() && rest_[0] == '+') {
      return Fault("possessive repetition is not supported");
    }
    if (!rest_.empty() && (rest_[0] == '*' || rest_[0] == '?' || rest_[0] == '{')) {
      return Fault("a repetition of a repetition needs a group");
    }
    return expressions_.Repeat(part, low, high);
  }

  absl::StatusOr<std::int32_t> Count() {
    if (rest_.empty() || rest_[0] < '0' || rest_[0] > '9') {
      return Fault("expected a repetition count (a literal '{' is written '\\{')");
    }
    std::int32_t count = 0;
    while (!rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9') {
      count = count * 10 + (rest_[0] - '0');
      if (count > kMostRepetitions) {
        return Fault(absl::StrFormat("at most %d repetitions are supported", kMostRepetitions));
      }
      rest_.remove_prefix(1);
    }
    return count;
  }

  // What a backslash and what follows it stands for.
  absl::StatusOr<CodePoints> Escape() {
    const std::string_view all = rest_;
    rest_.remove_prefix(1);
    if (rest_.empty()) {
      return Fault("'\\' at the end");
    }
    const char c = rest_[0];
    switch (c) {
      case 'd':
      case 'D':
      case 'w':
      case 'W':
      case 's':
      case 'S': {
        rest_.remove_prefix(1);
        const bool is_upper = c < 'a';
        const char lower = static_cast<char>(is_upper ? c + ('a' - 'A') : c);
        const CodePoints set = lower == 'd' ? Digits() : lower == 'w' ? WordCharacters() : Spaces();
        return is_upper ? set.Inverse() : set;
      }
      case 'b':
      case 'B':
        return Fault("word boundaries are not supported");
      case 'k':
        return Fault("back references are not supported");
      case 'p':
      case 'P':
        return Fault("Unicode properties are not supported; use ranges like [\\u4e00-\\u9fff]");
      default:
        break;
    }
    if (c >= '1' && c <= '9') {
      return Fault("back references are not supported");
    }
    rest_ = all;
    YANGTUO_ASSIGN_OR_RETURN(const std::uint32_t one, EscapedCharacter());
    return CodePoints(one, one);
  }

  // The same, where it stands for one character.
  absl::StatusOr<std::uint32_t> EscapedCharacter() {
    const std::optional<std::uint32_t> one = TakeEscape(rest_);
    if (!one.has_value()) {
      return Fault("unknown escape");
    }
    return *one;
  }

  absl::StatusOr<CodePoints> Class() {
    (void)Take('[');
    const bool inverse = Take('^');
    CodePoints set;
    while (!Take(']')) {
      if (rest_.empty()) {
        return Fault("'[' without ']'");
      }
      if (rest_.substr(0, 2) == "[:" || rest_.substr(0, 2) == "[." || rest_.substr(0, 2) == "[=") {
        return Fault("POSIX classes are not supported; use \\d, \\w, \\s or ranges");
      }
      YANGTUO_ASSIGN_OR_RETURN(const CodePoints first, ClassMember());
      if (rest_.size() < 2 || rest_[0] != '-' || rest_[1] == ']') {
        set.Add(first);
        continue;
      }
      (void)Take('-');
      YANGTUO_ASSIGN_OR_RETURN(const CodePoints last, ClassMember());
      const auto is_one = [](const CodePoints& member) {
        return member.ranges().size() == 1 && member.ranges()[0].low == member.ranges()[0].high;
      };
      if (!is_one(first) || !is_one(last)) {
        return Fault("a range in a class needs a character at either end");
      }
      if (last.ranges()[0].low < first.ranges()[0].low) {
        return Fault("a range in a class ends before it begins");
      }
      set.Add(first.ranges()[0].low, last.ranges()[0].low);
    }
    return inverse ? set.Inverse() : set;
  }

  absl::StatusOr<CodePoints> ClassMember() {
    if (rest_.substr(0, 2) == "\\b") {
      rest_.remove_prefix(2);
      return CodePoints('\b', '\b');
    }
    if (!rest_.empty() && rest_[0] == '\\') {
      return Escape();
    }
    YANGTUO_ASSIGN_OR_RETURN(const std::uint32_t one, Character());
    return CodePoints(one, one);
  }

  std::string_view text_;
  std::string_view rest_;
  const RegexOptions& options_;
  Expressions& expressions_;
};

}  // namespace

absl::StatusOr<ExpressionId> ParseRegex(std::string_view text, const RegexOptions& options,
                                        Expressions& expressions) {
  return RegexParser(text, options, expressions).Parse();
}

}  // namespace yangtuo
