#include "inference_core/grammar/gbnf_parser.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/character_escapes.h"
#include "inference_core/grammar/code_points.h"

namespace yangtuo {
namespace {

constexpr std::size_t kLongest = 256 << 10;
constexpr int kDeepest = 100;
constexpr std::int32_t kMostRepetitions = 10'000;
constexpr std::size_t kMostRules = 5000;
constexpr std::size_t kLongestName = 100;  // in messages

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

class GbnfParser {
 public:
  GbnfParser(std::string_view text, Expressions& expressions)
      : text_(text), rest_(text), expressions_(expressions) {}

  absl::StatusOr<ExpressionId> Parse() {
    if (text_.size() > kLongest) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "a grammar of %d bytes: at most %d are supported", text_.size(), kLongest));
    }
    for (SkipSpace(Lines::kSkip); !rest_.empty(); SkipSpace(Lines::kSkip)) {
      YANGTUO_RETURN_IF_ERROR(ReadRule());
    }
    for (const auto& [name, rule] : rules_) {
      if (!rule.is_defined) {
        return absl::InvalidArgumentError(absl::StrFormat("GBNF, line %d: rule '%s' is not defined",
                                                          rule.line, name.substr(0, kLongestName)));
      }
    }
    const auto root = rules_.find("root");
    if (root == rules_.end()) {
      return absl::InvalidArgumentError("GBNF: there is no rule 'root'");
    }
    return expressions_.Call(root->second.id);
  }

 private:
  enum class Lines : std::uint8_t { kKeep, kSkip };
  struct Rule {
    RuleId id = 0;
    int line = 0;  // where it is seen first
    bool is_defined = false;
  };

  absl::Status Fault(std::string_view what) const {
    const std::string_view before = text_.substr(0, text_.size() - rest_.size());
    return absl::InvalidArgumentError(absl::StrFormat("GBNF, line %d: %s", LineOf(before), what));
  }
  static std::int64_t LineOf(std::string_view before) {
    return 1 + std::count(before.begin(), before.end(), '\n');
  }

  bool Take(std::string_view literal) {
    if (rest_.substr(0, literal.size()) != literal) {
      return false;
    }
    rest_.remove_prefix(literal.size());
    return true;
  }

  // Spaces and comments; line ends too if they mean nothing here.
  void SkipSpace(Lines lines) {
    while (!rest_.empty()) {
      if (rest_[0] == '#') {
        rest_.remove_prefix(std::min(rest_.find('\n'), rest_.size()));
      } else if (rest_[0] == ' ' || rest_[0] == '\t' ||
                 (lines == Lines::kSkip && (rest_[0] == '\n' || rest_[0] == '\r'))) {
        rest_.remove_prefix(1);
      } else {
        return;
      }
    }
  }

  std::string_view TakeName() {
    const auto end = std::find_if_not(rest_.begin(), rest_.end(), IsNameCharacter);
    const std::string_view name = rest_.substr(0, static_cast<std::size_t>(end - rest_.begin()));
    rest_.remove_prefix(name.size());
    return name;
  }

  absl::StatusOr<Rule*> Known(std::string_view name) {
    if (name.size() > kLongestName) {
      return Fault(absl::StrFormat("a rule's name of more than %d characters", kLongestName));
    }
    const auto [entry, is_new] = rules_.try_emplace(std::string(name));
    if (is_new) {
      if (rules_.size() > kMostRules) {
        return Fault(absl::StrFormat("more than %d rules", kMostRules));
      }
      // Lines are counted from the place before, not from the beginning every time.
      const std::string_view before = text_.substr(0, text_.size() - rest_.size());
      line_ += std::count(before.begin() + counted_, before.end(), '\n');
      counted_ = static_cast<std::ptrdiff_t>(before.size());
      entry->second.line = static_cast<int>(line_);
      entry->second.id = expressions_.AddRule("rule '" + std::string(name) + "'");
    }
    return &entry->second;
  }

  absl::Status ReadRule() {
    const std::string_view name = TakeName();
    if (name.empty()) {
      return Fault("expected a rule: name ::= ...");
    }
    SkipSpace(Lines::kKeep);
    if (!Take("::=")) {
      return Fault("expected '::=' after a rule's name");
    }
    YANGTUO_ASSIGN_OR_RETURN(Rule * rule, Known(name));
    if (rule->is_defined) {
      return Fault(absl::StrFormat("rule '%s' is defined twice", name));
    }
    rule->is_defined = true;
    const RuleId id = rule->id;
    SkipSpace(Lines::kSkip);
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId body, Alternatives(0, Lines::kKeep));
    expressions_.DefineRule(id, body);
    if (!rest_.empty() && rest_[0] != '\n' && rest_[0] != '\r') {
      return Fault(rest_[0] == ')' ? "')' without '('" : "expected the end of the rule");
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ExpressionId> Alternatives(int depth, Lines lines) {
    std::vector<ExpressionId> alternatives;
    do {
      SkipSpace(alternatives.empty() ? lines : Lines::kSkip);
      YANGTUO_ASSIGN_OR_RETURN(const ExpressionId alternative, Sequence(depth, lines));
      alternatives.push_back(alternative);
    } while (Take("|"));
    return expressions_.Choice(std::move(alternatives));
  }

  absl::StatusOr<ExpressionId> Sequence(int depth, Lines lines) {
    std::vector<ExpressionId> parts;
    for (SkipSpace(lines); !rest_.empty(); SkipSpace(lines)) {
      YANGTUO_RETURN_IF_ERROR(expressions_.CheckNotFull());
      const char c = rest_[0];
      std::optional<ExpressionId> part;
      if (c == '"') {
        YANGTUO_ASSIGN_OR_RETURN(part, Literal());
      } else if (c == '[') {
        YANGTUO_ASSIGN_OR_RETURN(part, Class());
      } else if (Take(".")) {
        part = expressions_.Characters(CodePoints::All());
      } else if (c == '(') {
        YANGTUO_ASSIGN_OR_RETURN(part, Group(depth + 1));
      } else if (IsNameCharacter(c)) {
        YANGTUO_ASSIGN_OR_RETURN(Rule * rule, Known(TakeName()));
        part = expressions_.Call(rule->id);
      } else {
        break;
      }
      YANGTUO_ASSIGN_OR_RETURN(part, Repeated(*part, lines));
      parts.push_back(*part);
    }
    if (!rest_.empty() &&
        (rest_[0] == '*' || rest_[0] == '+' || rest_[0] == '?' || rest_[0] == '{')) {
      return Fault("nothing to repeat");
    }
    return expressions_.Sequence(std::move(parts));
  }

  absl::StatusOr<ExpressionId> Group(int depth) {
    if (depth > kDeepest) {
      return Fault(absl::StrFormat("groups nested more than %d deep", kDeepest));
    }
    (void)Take("(");
    YANGTUO_ASSIGN_OR_RETURN(const ExpressionId group, Alternatives(depth, Lines::kSkip));
    if (!Take(")")) {
      return Fault("'(' without ')'");
    }
    return group;
  }

  absl::StatusOr<ExpressionId> Repeated(ExpressionId part, Lines lines) {
    for (;;) {
      SkipSpace(lines);
      std::int32_t low = 0;
      std::int32_t high = -1;
      if (Take("*")) {
      } else if (Take("+")) {
        low = 1;
      } else if (Take("?")) {
        high = 1;
      } else if (Take("{")) {
        SkipSpace(Lines::kKeep);
        if (!rest_.empty() && rest_[0] == '}') {
          return Fault("expected a repetition count");
        }
        YANGTUO_ASSIGN_OR_RETURN(low, Count(0));
        high = low;
        if (Take(",")) {
          YANGTUO_ASSIGN_OR_RETURN(high, Count(-1));
        }
        if (!Take("}")) {
          return Fault("expected '}' after a repetition count");
        }
        if (high >= 0 && high < low) {
          return Fault("a repetition's largest count is below its smallest");
        }
      } else {
        return part;
      }
      part = expressions_.Repeat(part, low, high);
    }
  }

  // `absent` where there is no number.
  absl::StatusOr<std::int32_t> Count(std::int32_t absent) {
    SkipSpace(Lines::kKeep);
    std::optional<std::int32_t> count;
    for (; !rest_.empty() && rest_[0] >= '0' && rest_[0] <= '9'; rest_.remove_prefix(1)) {
      count = count.value_or(0) * 10 + (rest_[0] - '0');
      if (*count > kMostRepetitions) {
        return Fault(absl::StrFormat("at most %d repetitions are supported", kMostRepetitions));
      }
    }
    SkipSpace(Lines::kKeep);
    return count.value_or(absent);
  }

  absl::StatusOr<std::uint32_t> Character() {
    const std::optional<std::uint32_t> one =
        !rest_.empty() && rest_[0] == '\\' ? TakeEscape(rest_) : TakeCodePoint(rest_);
    if (!one.has_value()) {
      return Fault(rest_.empty() ? "the grammar ends inside a literal or class"
                                 : "unknown escape, or not UTF-8");
    }
    return *one;
  }

  absl::StatusOr<ExpressionId> Literal() {
    (void)Take("\"");
    std::string bytes;
    while (!Take("\"")) {
      YANGTUO_ASSIGN_OR_RETURN(const std::uint32_t one, Character());
      bytes += ToUtf8(one);
    }
    return expressions_.Literal(bytes);
  }

  absl::StatusOr<ExpressionId> Class() {
    (void)Take("[");
    const bool inverse = Take("^");
    CodePoints set;
    while (!Take("]")) {
      YANGTUO_ASSIGN_OR_RETURN(const std::uint32_t low, Character());
      std::uint32_t high = low;
      if (rest_.size() > 1 && rest_[0] == '-' && rest_[1] != ']') {
        (void)Take("-");
        YANGTUO_ASSIGN_OR_RETURN(high, Character());
      }
      if (high < low) {
        return Fault("a range in a class ends before it begins");
      }
      set.Add(low, high);
    }
    return expressions_.Characters(inverse ? set.Inverse() : set);
  }

  std::string_view text_;
  std::string_view rest_;
  Expressions& expressions_;
  std::map<std::string, Rule, std::less<>> rules_;
  std::int64_t line_ = 1;  // of the place up to which lines are counted
  std::ptrdiff_t counted_ = 0;
};

}  // namespace

absl::StatusOr<ExpressionId> ParseGbnf(std::string_view text, Expressions& expressions) {
  return GbnfParser(text, expressions).Parse();
}

}  // namespace yangtuo
