#include <ctime>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <regex>
#include <string>

#include "inference_core/grammar/code_points.h"
#include "tests/inference_core/grammar/grammar_walks.h"

namespace yangtuo {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

GrammarSpec Regex(std::string text) { return {.kind = GrammarKind::kRegex, .text = text}; }

GrammarSpec Choice(std::vector<std::string> choices) {
  return {.kind = GrammarKind::kChoice, .choices = std::move(choices)};
}

TEST(ChoiceTest, TakesEachOfTheTextsAndNothingElse) {
  const auto grammar = MustCompile(Choice({"yes", "no", "不知道"}));
  EXPECT_TRUE(Matches(grammar, "yes"));
  EXPECT_TRUE(Matches(grammar, "no"));
  EXPECT_TRUE(Matches(grammar, "不知道"));
  EXPECT_FALSE(Matches(grammar, "ye"));
  EXPECT_FALSE(Matches(grammar, "yesno"));
  EXPECT_FALSE(Matches(grammar, ""));
}

TEST(ChoiceTest, MayEndInTheShorterOfTwoOrGoOn) {
  GrammarMatcher matcher(MustCompile(Choice({"a", "ab"})), ByteVocabulary());
  EXPECT_FALSE(matcher.CanEnd());
  ASSERT_TRUE(matcher.Accept('a').ok());
  EXPECT_TRUE(matcher.CanEnd());
  EXPECT_FALSE(matcher.MustEnd());
  EXPECT_EQ(matcher.Allowed().Count(), 1);
  ASSERT_TRUE(matcher.Accept('b').ok());
  EXPECT_TRUE(matcher.MustEnd());
  EXPECT_TRUE(matcher.Allowed().IsEmpty());
}

TEST(ChoiceTest, RefusesNoTextsAtAll) {
  EXPECT_THAT(WhyRefused(Choice({})), HasSubstr("no texts"));
}

TEST(ChoiceTest, TakesTenThousandTexts) {
  std::vector<std::string> choices;
  for (int i = 0; i < 10'000; ++i) {
    choices.push_back("item-" + std::to_string(i * 7));
  }
  const auto grammar = MustCompile(Choice(choices));
  EXPECT_TRUE(Matches(grammar, "item-69993"));
  EXPECT_FALSE(Matches(grammar, "item-69992"));
}

// Expressions that std::regex (ECMAScript over bytes) and ours read alike on ASCII texts.
const char* const kExpressions[] = {
    "abc",
    "a|b|",
    "(ab|a)(b|ba)*",
    "[a-c]{2,4}",
    "a{3}b{0,2}c{1,}",
    "(?:a|b)*abb",
    "[^b-z]+x?",
    "\\d{2}-\\w+\\s?\\D",
    "^(foo|ba[rz])$",
    "x*?y+?",
    "(a|b|ab){1,5}",
    "(|a)(|b)(|c)",
    "[-a]+[\\]b]",
    "\\x41\\u0042\\t?",
    "((a{0,2}b){0,2}c){0,2}",
    "a.c",
    "(a*)*b",
    "(?:(a|b)c)+",
    "(?:(?:2[0-5]|\\d)a){2}x",
    "(?:(?:(?:a)))(b)",
    "[\\w.]+@[a-c]+\\.b",
};

TEST(RegexTest, AgreesWithStdRegexOnRandomTexts) {
  Random random(1);
  for (const char* const expression : kExpressions) {
    const auto grammar = MustCompile(Regex(expression));
    const std::regex reference(expression);
    int matched = 0;
    for (int i = 0; i < 3000; ++i) {
      std::string text;
      const std::string_view alphabet = i % 2 == 0 ? "abc" : "abcxyz0-@. AB\tfor]";
      for (std::uint32_t length = random() % 9; length > 0; --length) {
        text += alphabet[random() % alphabet.size()];
      }
      const bool expected = std::regex_match(text, reference);
      matched += expected ? 1 : 0;
      ASSERT_EQ(Matches(grammar, text), expected) << expression << " on " << text;
    }
    for (int i = 0; i < 40; ++i) {
      const auto text = RandomText(grammar, SmallVocabulary(), random, 10);
      ASSERT_TRUE(text.has_value());
      // std::regex works on bytes: it counts a character of several as several.
      if (text->find_first_of("\x80\xE4\xF0") == std::string::npos &&
          std::all_of(text->begin(), text->end(), [](char c) { return c > 0; })) {
        ASSERT_TRUE(std::regex_match(*text, reference)) << expression << " made " << *text;
        ++matched;
      }
      ASSERT_TRUE(Matches(grammar, *text));
      ASSERT_TRUE(MatchesAsTokens(grammar, SmallVocabulary(), *text));
    }
    EXPECT_GT(matched, 0) << expression;
  }
}

TEST(RegexTest, WorksOnCharactersNotOnBytes) {
  const auto han = MustCompile(Regex("[\\u4e00-\\u9fff]{2,3}"));
  EXPECT_TRUE(Matches(han, "春望"));
  EXPECT_TRUE(Matches(han, "白居易"));
  EXPECT_FALSE(Matches(han, "春"));
  EXPECT_FALSE(Matches(han, "春a"));
  EXPECT_FALSE(Matches(han, "春望白居"));
  const auto any = MustCompile(Regex("."));
  EXPECT_TRUE(Matches(any, "\xF0\x9F\xA6\x99"));
  EXPECT_FALSE(Matches(any, "\xF0\x9F\xA6"));
  EXPECT_FALSE(Matches(any, "\xED\xA0\x80")) << "a surrogate";
  EXPECT_FALSE(Matches(any, "\xC0\x80")) << "overlong";
  EXPECT_FALSE(Matches(any, "\xF4\x90\x80\x80")) << "beyond Unicode";
  EXPECT_FALSE(Matches(any, "\n"));
  const auto not_han = MustCompile(Regex("[^一-龥]+"));
  EXPECT_TRUE(Matches(not_han, "é\xF0\x9F\xA6\x99"));
  EXPECT_FALSE(Matches(not_han, "丁"));
  EXPECT_TRUE(Matches(MustCompile(Regex("\\ud83e\\udd99|\\u{1F999}x")), "\xF0\x9F\xA6\x99x"));
}

TEST(RegexTest, EveryCharacterOfARangeAndNoOther) {
  Random random(2);
  for (int i = 0; i < 60; ++i) {
    const std::uint32_t shift = random() % 12;
    std::uint32_t low = (random() % 0x110000) >> shift;
    std::uint32_t high = (random() % 0x110000) >> shift;
    if (low > high) {
      std::swap(low, high);
    }
    char expression[64];
    std::snprintf(expression, sizeof(expression), "[\\u{%x}-\\u{%x}]", low, high);
    if ((low >= 0xD800 && low < 0xE000) || (high >= 0xD800 && high < 0xE000)) {
      continue;
    }
    const auto grammar = MustCompile(Regex(expression));
    for (int j = 0; j < 60; ++j) {
      std::uint32_t one = random() % 0x110000;
      one = j == 0 ? low : j == 1 ? high : j == 2 ? low - 1 : j == 3 ? high + 1 : one;
      if (one > 0x10FFFF || (one >= 0xD800 && one < 0xE000)) {
        continue;
      }
      ASSERT_EQ(Matches(grammar, ToUtf8(one)), low <= one && one <= high)
          << expression << " " << one;
    }
  }
}

TEST(RegexTest, SaysWhereAndWhatItDoesNotSupport) {
  EXPECT_THAT(WhyRefused(Regex("ab(?=c)")), HasSubstr("at byte 2: look-around"));
  EXPECT_THAT(WhyRefused(Regex("(?<!a)b")), HasSubstr("look-around"));
  EXPECT_THAT(WhyRefused(Regex("(a)\\1")), HasSubstr("back references"));
  EXPECT_THAT(WhyRefused(Regex("\\bword")), HasSubstr("word boundaries"));
  EXPECT_THAT(WhyRefused(Regex("\\p{Han}")), HasSubstr("Unicode properties"));
  EXPECT_THAT(WhyRefused(Regex("(?i)a")), HasSubstr("flags"));
  EXPECT_THAT(WhyRefused(Regex("a^b")), HasSubstr("only where the expression begins"));
  EXPECT_THAT(WhyRefused(Regex("a$b")), HasSubstr("only where the expression ends"));
  EXPECT_THAT(WhyRefused(Regex("(a")), HasSubstr("without ')'"));
  EXPECT_THAT(WhyRefused(Regex("a)")), HasSubstr("without '('"));
  EXPECT_THAT(WhyRefused(Regex("[a")), HasSubstr("without ']'"));
  EXPECT_THAT(WhyRefused(Regex("[b-a]")), HasSubstr("ends before it begins"));
  EXPECT_THAT(WhyRefused(Regex("*a")), HasSubstr("nothing to repeat"));
  EXPECT_THAT(WhyRefused(Regex("a++")), HasSubstr("possessive"));
  EXPECT_THAT(WhyRefused(Regex("a**")), HasSubstr("needs a group"));
  EXPECT_THAT(WhyRefused(Regex("a{3,2}")), HasSubstr("below its smallest"));
  EXPECT_THAT(WhyRefused(Regex("a{99999999999}")), HasSubstr("at most 10000"));
  EXPECT_THAT(WhyRefused(Regex("a\\")), HasSubstr("'\\' at the end"));
  EXPECT_THAT(WhyRefused(Regex("\\q")), HasSubstr("unknown escape"));
  EXPECT_THAT(WhyRefused(Regex("[[:alpha:]]")), HasSubstr("POSIX"));
  EXPECT_THAT(WhyRefused(Regex("a\xFF")), HasSubstr("not UTF-8"));
  EXPECT_THAT(WhyRefused(Regex("[^\\s\\S]")), HasSubstr("matches no text"));
  EXPECT_THAT(WhyRefused(Regex(std::string(200, '(') + std::string(200, ')'))),
              HasSubstr("nested more than 100 deep"));
}

TEST(RegexTest, HostileExpressionsEndSoonWithAnError) {
  const std::clock_t begin = std::clock();  // busy machines take longer, not more
  for (const std::string& hostile :
       {std::string("(((((a{100}){100}){100}){100}){100})"), std::string("(a|b)*a(a|b){40}"),
        std::string(".{10000}.{10000}.{10000}"), std::string("(.*){1000}(.*a){1000}"),
        std::string("([\\u0100-\\uffff]{0,10000}x){100}")}) {
    EXPECT_THAT(WhyRefused(Regex(hostile)), HasSubstr("too large")) << hostile;
  }
  // Nested emptiness is not hostile: it is the empty text or letters.
  const auto grammar = MustCompile(Regex("((a|b|ab)*){1000}"));
  EXPECT_TRUE(Matches(grammar, "abba"));
  EXPECT_TRUE(Matches(MustCompile(Regex("(((((){10000}){10000}){10000}){10000})x")), "x"));
  EXPECT_LT(std::clock() - begin, 60 * CLOCKS_PER_SEC);
}

TEST(RegexTest, AllowedIsWhatAcceptTakes) {
  Random random(3);
  for (const char* const expression :
       {"(a|ab|abc)*\\d{1,3}", "[一-龥]{2,9}|[\\x00-\\xff]*", "a?b"}) {
    ExpectAllowedIsWhatAcceptTakes(MustCompile(Regex(expression)), SmallVocabulary(), random, 8);
  }
}

TEST(RegexTest, GroupsWithinGroupsMustBeClosed) {
  EXPECT_THAT(WhyRefused(Regex("(?:((a)b)")), HasSubstr("'(' without ')'"));
  EXPECT_THAT(WhyRefused(Regex("(?:a))")), HasSubstr("')' without '('"));
  EXPECT_THAT(WhyRefused(Regex("(?i:a)")), HasSubstr("special groups"));
}

}  // namespace
}  // namespace yangtuo
