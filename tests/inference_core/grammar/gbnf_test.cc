#include <ctime>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/inference_core/grammar/grammar_walks.h"

namespace yangtuo {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

GrammarSpec Gbnf(std::string text) { return {.kind = GrammarKind::kGbnf, .text = std::move(text)}; }

// Sums of products with parentheses, by plain recursive descent.
class Calculator {
 public:
  static bool Accepts(std::string_view text) {
    Calculator calculator{text};
    return calculator.Sum() && calculator.rest_.empty();
  }

 private:
  explicit Calculator(std::string_view text) : rest_(text) {}
  bool Take(char c) {
    const bool is_there = !rest_.empty() && rest_[0] == c;
    rest_.remove_prefix(is_there ? 1 : 0);
    return is_there;
  }
  bool Sum() {
    while (Product()) {
      if (!Take('+')) {
        return true;
      }
    }
    return false;
  }
  bool Product() {
    while (Factor()) {
      if (!Take('*')) {
        return true;
      }
    }
    return false;
  }
  bool Factor() {
    if (Take('(')) {
      return Sum() && Take(')');
    }
    const std::size_t digits = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    rest_.remove_prefix(digits);
    return digits > 0;
  }

  std::string_view rest_;
};

constexpr char kSums[] = R"x(
# sums of products
root    ::= product ("+" product)*
product ::= factor | factor "*" product
factor  ::= [0-9]+ |
            "(" root ")"
)x";

TEST(GbnfTest, AgreesWithRecursiveDescentOnRandomTexts) {
  const auto grammar = MustCompile(Gbnf(kSums));
  Random random(1);
  int matched = 0;
  for (int i = 0; i < 60'000; ++i) {
    std::string text;
    for (std::uint32_t length = random() % 8; length > 0; --length) {
      text += "12+*()"[random() % 6];
    }
    const bool expected = Calculator::Accepts(text);
    matched += expected ? 1 : 0;
    ASSERT_EQ(Matches(grammar, text), expected) << text;
  }
  EXPECT_GT(matched, 200);
  for (int i = 0; i < 200; ++i) {
    const auto made = RandomText(grammar, SmallVocabulary(), random, 25);
    ASSERT_TRUE(made.has_value());
    ASSERT_TRUE(Calculator::Accepts(*made)) << *made;
    ASSERT_TRUE(MatchesAsTokens(grammar, SmallVocabulary(), *made));
  }
  ExpectAllowedIsWhatAcceptTakes(grammar, SmallVocabulary(), random, 30);
}

TEST(GbnfTest, JsonOfTheNotationsOwnKind) {
  const auto grammar = MustCompile(Gbnf(R"x(
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array  ::= "[" ws (value ("," ws value)*)? "]" ws
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
)x"));
  ASSERT_NE(grammar, nullptr);
  Random random(2);
  for (int i = 0; i < 100; ++i) {
    const auto made = RandomText(grammar, SmallVocabulary(), random, 40);
    ASSERT_TRUE(made.has_value());
    // Lone surrogates and huge exponents are the grammar's own fault.
    if (made->find("\\u") == std::string::npos && made->find_first_of("eE") == std::string::npos) {
      ASSERT_TRUE(nlohmann::json::accept(*made)) << *made;
    }
  }
  EXPECT_TRUE(Matches(grammar, "{\"a\": [1, -2.5e1, {\"b\": \"\\n人\"}], \"c\": null}"));
  EXPECT_FALSE(Matches(grammar, "{\"a\": [1, }"));
}

TEST(GbnfTest, NotationsOfCharactersAndRepetition) {
  const auto expect = [](const std::string& text, const std::vector<std::string>& good,
                         const std::vector<std::string>& bad) {
    const auto grammar = MustCompile(Gbnf(text));
    ASSERT_NE(grammar, nullptr);
    for (const std::string& one : good) {
      EXPECT_TRUE(Matches(grammar, one)) << text << " on " << one;
    }
    for (const std::string& one : bad) {
      EXPECT_FALSE(Matches(grammar, one)) << text << " on " << one;
    }
  };
  expect("root ::= \"a\\n\\x41\\u4eba\\U0001F999\\\"\\\\\"", {"a\nA人\xF0\x9F\xA6\x99\"\\"}, {"a"});
  expect("root ::= [a-c\\]\\-]{2} [^一-龥]", {"a]x", "-cé"}, {"axx", "ab一"});
  expect("root ::= \"a\"{2,3} \"b\"{2,} \"c\"{,2}", {"aabb", "aaabbbbcc"},
         {"abb", "aab", "aabbccc"});
  expect("root ::= (\"a\" | \"b\"\n | \"c\") .", {"ax", "c人"}, {"a", "dx"});
  expect("root ::= a-rule b_rule |\n  \"z\"\na-rule ::= \"a\"*\n\nb_rule ::= \"b\"? # end",
         {"", "aab", "z"}, {"ba", "az"});
  expect("root ::= \"a\"+?", {"", "a", "aaa"}, {});
}

TEST(GbnfTest, RecursionAtTheEndNeedsNoDepth) {
  const auto list = MustCompile(Gbnf("root ::= \"a\" | \"a\" \",\" root"));
  std::string text = "a";
  for (int i = 0; i < 5000; ++i) {
    text += ",a";
  }
  EXPECT_TRUE(Matches(list, text));
  const auto nested = MustCompile(Gbnf("root ::= \"(\" root \")\" | \"x\""));
  EXPECT_TRUE(Matches(nested, std::string(200, '(') + "x" + std::string(200, ')')));
  EXPECT_FALSE(Matches(nested, std::string(300, '(') + "x" + std::string(300, ')')));
}

TEST(GbnfTest, AmbiguousGrammars) {
  const auto palindrome =
      MustCompile(Gbnf("root ::= \"a\" root \"a\" | \"b\" root \"b\" | \"a\" | \"b\" | \"\""));
  for (const std::string text : {"", "a", "aa", "abba", "ababa", "aabaa"}) {
    EXPECT_TRUE(Matches(palindrome, text)) << text;
  }
  EXPECT_FALSE(Matches(palindrome, "ab"));
  const auto equal =
      MustCompile(Gbnf("root ::= s\ns ::= x | y\nx ::= \"a\" s \"b\" | \"\"\ny ::= \"a\" s \"c\""));
  EXPECT_TRUE(Matches(equal, "aabb"));
  EXPECT_TRUE(Matches(equal, "aabc"));
  EXPECT_FALSE(Matches(equal, "aab"));
  Random random(3);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(RandomText(equal, ByteVocabulary(), random, 30).has_value());
    ASSERT_TRUE(RandomText(palindrome, ByteVocabulary(), random, 30).has_value());
  }
}

TEST(GbnfTest, SaysWhereAndWhatIsWrong) {
  EXPECT_THAT(WhyRefused(Gbnf("")), HasSubstr("no rule 'root'"));
  EXPECT_THAT(WhyRefused(Gbnf("a ::= \"x\"")), HasSubstr("no rule 'root'"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\"\nroot ::= \"b\"")),
              HasSubstr("line 2: rule 'root' is defined twice"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::=\n\n\n  missing")),
              HasSubstr("line 4: rule 'missing' is not defined"));
  EXPECT_THAT(WhyRefused(Gbnf("root = \"a\"")), HasSubstr("expected '::='"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= (\"a\"")), HasSubstr("without ')'"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\")")), HasSubstr("without '('"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a")), HasSubstr("ends inside"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"\\q\"")), HasSubstr("unknown escape"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= *")), HasSubstr("nothing to repeat"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\"{3,2}")), HasSubstr("below its smallest"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\"{99999}")), HasSubstr("at most 10000"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= root \"a\" | \"b\"")),
              HasSubstr("rule 'root' refers to itself"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= a\na ::= \"x\"? b\nb ::= a \"y\" | \"z\"")),
              HasSubstr("left recursion"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\" root")), HasSubstr("matches no text"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\" $")), HasSubstr("expected the end of the rule"));
}

TEST(GbnfTest, APassOverTheVocabularyIsBounded) {
  const auto real = RealVocabulary();
  if (real == nullptr) {
    GTEST_SKIP() << "no shared data";
  }
  // What comes must come again in reverse: every token leads to a place of its own, by many ways.
  std::string grammar = "root ::= a0 | \"\"\n";
  for (int i = 0; i < 256; ++i) {
    const std::string digits = absl::StrFormat("\\x%02x", i % 128);
    grammar += absl::StrFormat("a%d ::= \"%s\" root \"%s\"%s\n", i, digits, digits,
                               i < 255 ? absl::StrFormat(" | a%d", i + 1) : "");
  }
  const auto compiled = MustCompile(Gbnf(grammar));
  ASSERT_NE(compiled, nullptr);
  GrammarMatcher matcher(compiled, real);
  const std::clock_t begin = std::clock();  // busy machines take longer, not more
  for (int i = 0; i < 10; ++i) {
    const TokenBits& allowed = matcher.Allowed();
    ASSERT_GE(allowed.Count(), 100);  // the single bytes at least
    TokenId next = 0;
    while (!allowed.Contains(next)) {
      ++next;
    }
    ASSERT_TRUE(matcher.Accept(next).ok());
  }
  EXPECT_LT(std::clock() - begin, 5 * CLOCKS_PER_SEC);
}

TEST(GbnfTest, RepetitionsMayStandApart) {
  const auto grammar = MustCompile(Gbnf("root ::= \"a\" * [0-9] + \"b\" {2}"));
  ASSERT_NE(grammar, nullptr);
  EXPECT_TRUE(Matches(grammar, "aa12bb"));
  EXPECT_FALSE(Matches(grammar, "aabb"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\"{}")), HasSubstr("expected a repetition count"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= \"a\"\n* \"b\"")), HasSubstr("expected a rule"));
}

// Near the greatest depth, calls that no longer fit, among rules that match the empty text: ways on
// are there, but behind more dead ends than are looked at. Such a place is never come to.
TEST(GbnfTest, DeadEndsBeyondCountingAreNotEntered) {
  std::string text = "z ::= \"z\"\n";
  for (int i = 0; i < 100; ++i) {
    text += i < 99 ? absl::StrFormat("d%d ::= d%d \"y\"\n", i, i + 1)
                   : absl::StrFormat("d%d ::= \"y\"\n", i);
  }
  text += "dd ::= d0 \"y\"\nee ::= d0 \"w\"\n";
  for (int i = 0; i < 14; ++i) {
    for (const char* const name : {"t", "u"}) {
      text += absl::StrFormat("%s%d ::= (t%d dd? | u%d ee?)?\n", name, i, i + 1, i + 1);
    }
  }
  text += "t14 ::= dd?\nu14 ::= dd?\n";
  for (int i = 1; i < 200; ++i) {
    text += absl::StrFormat("r%d ::= r%d \"y\"\n", i, i + 1);
  }
  text += "r200 ::= t0 z\n";
  EXPECT_THAT(WhyRefused(Gbnf(text + "root ::= r1 \"y\"\n")), HasSubstr("more ways to begin"));
  // The same after a letter, beside a way that is plain.
  const auto grammar = MustCompile(Gbnf(text + "root ::= \"a\" r1 \"y\" | \"b\"\n"));
  ASSERT_NE(grammar, nullptr);
  GrammarMatcher matcher(grammar, ByteVocabulary());
  EXPECT_TRUE(matcher.Allowed().Contains('b'));
  EXPECT_FALSE(matcher.Allowed().Contains('a'));
}

TEST(GbnfTest, LongChainsOfEmptyRulesCompileSoon) {
  const std::clock_t begin = std::clock();
  std::string text = "root ::= a0 \"x\"\n";
  for (int i = 0; i < 2500; ++i) {
    text += absl::StrFormat("a%d ::= a%d\n", i, i + 1);
  }
  text += "a2500 ::= \"\" | ";
  text.append(15'000, '.');
  (void)WhyRefused(Gbnf(text));
  EXPECT_LT(std::clock() - begin, 20 * CLOCKS_PER_SEC);
}

TEST(GbnfTest, HostileGrammarsEndSoon) {
  const std::clock_t begin = std::clock();  // busy machines take longer, not more
  // Nothing but empty texts, doubled at every level, in front of a letter.
  std::string doubling = "root ::= e0 \"x\"\n";
  for (int i = 0; i < 60; ++i) {
    doubling += absl::StrFormat("e%d ::= e%d e%d\n", i, i + 1, i + 1);
  }
  const auto empty = MustCompile(Gbnf(doubling + "e60 ::= \"\"\n"));
  ASSERT_NE(empty, nullptr);
  EXPECT_TRUE(Matches(empty, "x"));
  const auto letters = MustCompile(Gbnf(doubling + "e60 ::= \"y\"?\n"));
  ASSERT_NE(letters, nullptr);
  Random random(4);
  EXPECT_TRUE(RandomText(letters, SmallVocabulary(), random, 20).has_value());
  EXPECT_THAT(WhyRefused(Gbnf(doubling + "e60 ::= \"y\"{10000}{10000}\n")), HasSubstr("too large"));
  EXPECT_THAT(WhyRefused(Gbnf("root ::= (((\"a\"{1000}){1000}){1000}){1000}")),
              HasSubstr("too large"));
  // As many ways to read a text as there can be.
  const auto ambiguous = MustCompile(
      Gbnf("root ::= a | b | c\na ::= \"x\" root \"1\" | \"\"\nb ::= \"x\" root \"2\" | \"\"\n"
           "c ::= \"x\" root root \"3\" | \"\""));
  ASSERT_NE(ambiguous, nullptr);
  GrammarMatcher matcher(ambiguous, SmallVocabulary());
  for (int i = 0; i < 60 && matcher.Allowed().Contains('x'); ++i) {
    ASSERT_TRUE(matcher.Accept('x').ok());
  }
  for (int i = 0; i < 2000 && !matcher.MustEnd(); ++i) {
    const TokenBits& allowed = matcher.Allowed();
    const TokenId next = allowed.Contains('1') ? '1' : allowed.Contains('2') ? '2' : '3';
    if (matcher.CanEnd()) {
      break;
    }
    ASSERT_TRUE(matcher.Accept(next).ok());
  }
  EXPECT_TRUE(matcher.CanEnd());
  EXPECT_LT(std::clock() - begin, 60 * CLOCKS_PER_SEC);
}

}  // namespace
}  // namespace yangtuo
