#include <algorithm>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/inference_core/grammar/grammar_walks.h"
#include "tests/inference_core/grammar/random_json.h"

namespace yangtuo {
namespace {

using nlohmann::json;

std::shared_ptr<const Grammar> JsonObject() {
  static const auto grammar = MustCompile({.kind = GrammarKind::kJsonObject});
  return grammar;
}

TEST(JsonObjectTest, WhatItMakesParses) {
  Random random(1);
  const auto real = RealVocabulary();
  for (int i = 0; i < 300; ++i) {
    const auto text =
        RandomText(JsonObject(), i % 3 == 0 && real != nullptr ? real : SmallVocabulary(), random);
    ASSERT_TRUE(text.has_value());
    const json value = json::parse(*text, nullptr, /*allow_exceptions=*/false);
    ASSERT_TRUE(value.is_object()) << *text;
  }
}

TEST(JsonObjectTest, TakesWhatAWriterMakes) {
  Random random(2);
  for (int i = 0; i < 400; ++i) {
    json value = json::object();
    for (int members = static_cast<int>(random() % 5); members > 0; --members) {
      value[RandomString(random)] = RandomJson(random, 4);
    }
    for (const int indent : {-1, 0, 2, 4}) {
      for (const bool ascii : {false, true}) {
        const std::string text = value.dump(indent, ' ', ascii);
        ASSERT_TRUE(Matches(JsonObject(), text)) << text;
        ASSERT_TRUE(MatchesAsTokens(JsonObject(), SmallVocabulary(), text)) << text;
      }
    }
  }
}

TEST(JsonObjectTest, RefusesWhatIsNotJson) {
  for (const std::string text : {"",
                                 "[]",
                                 "1",
                                 "{",
                                 "{}}",
                                 "{} ",
                                 " {}",
                                 "{,}",
                                 "{\"a\"}",
                                 "{\"a\":}",
                                 "{\"a\":1,}",
                                 "{\"a\" 1}",
                                 "{'a':1}",
                                 "{a:1}",
                                 "{\"a\":01}",
                                 "{\"a\":+1}",
                                 "{\"a\":.5}",
                                 "{\"a\":1.}",
                                 "{\"a\":1e}",
                                 "{\"a\":-}",
                                 "{\"a\":tru}",
                                 "{\"a\":True}",
                                 "{\"a\":NaN}",
                                 "{\"a\":[1,]}",
                                 "{\"a\":\"\n\"}",
                                 "{\"a\":\"\t\"}",
                                 "{\"a\":\"\\x\"}",
                                 "{\"a\":\"\\u12\"}",
                                 "{\"a\":\"\\ud800\"}",
                                 "{\"a\":\"\\udc00\"}",
                                 "{\"a\":\"\\ud800\\u0041\"}",
                                 "{\"a\":\"\xFF\"}",
                                 "{\"a\":\"\xC0\x80\"}",
                                 "{\"a\":\"\xED\xA0\x80\"}",
                                 "{\"a\":1e999}",
                                 "{\"a\":10e308}",
                                 "{\"a\":1]",
                                 "{\"a\":[1}",
                                 "{\"a\":{\"b\":1}"}) {
    EXPECT_FALSE(Matches(JsonObject(), text)) << text;
    EXPECT_FALSE(json::accept(text) && json::parse(text).is_object() && text.front() == '{' &&
                 text.back() == '}')
        << text;
  }
}

TEST(JsonObjectTest, WhiteSpaceDoesNotGoOnForEver) {
  EXPECT_TRUE(Matches(JsonObject(), "{ \"a\": 1, \"b\": [ 1, 2 ] }"));
  EXPECT_TRUE(Matches(JsonObject(), "{\n\t\"a\": {\n\t\t\"b\": []\n\t}\n}"));
  EXPECT_FALSE(Matches(JsonObject(), "{  \"a\":1}"));
  EXPECT_FALSE(Matches(JsonObject(), "{\n\n\"a\":1}"));
  EXPECT_FALSE(Matches(JsonObject(), "{\n" + std::string(33, ' ') + "\"a\":1}"));
}

TEST(JsonObjectTest, NestsSixtyFourDeepAndThenFindsAWayOut) {
  const auto nested = [](int depth) {
    std::string text = "{\"a\":";
    for (int i = 1; i < depth; ++i) {
      text += "[";
    }
    return text + std::string(static_cast<std::size_t>(depth) - 1, ']') + "}";
  };
  EXPECT_TRUE(Matches(JsonObject(), "{\"a\":" + std::string(63, '[') + std::string(63, ']') + "}"));
  EXPECT_FALSE(Matches(JsonObject(), nested(70)));
  // One that opens whatever it can still ends.
  GrammarMatcher matcher(JsonObject(), ByteVocabulary());
  std::string text;
  for (int i = 0; i < 1000 && !matcher.MustEnd(); ++i) {
    const TokenBits& allowed = matcher.Allowed();
    ASSERT_FALSE(allowed.IsEmpty());
    const bool in_key = !text.empty() && (text.back() == '{' || text.ends_with("{\""));
    for (const char c : in_key ? std::string("\"") : std::string("{[]},:0")) {
      if (allowed.Contains(c)) {
        ASSERT_TRUE(matcher.Accept(c).ok());
        text += c;
        break;
      }
    }
  }
  EXPECT_TRUE(matcher.MustEnd());
  EXPECT_TRUE(json::accept(text)) << text;
  EXPECT_EQ(std::count(text.begin(), text.end(), '{') + std::count(text.begin(), text.end(), '['),
            64);
}

TEST(JsonObjectTest, AllowedIsWhatAcceptTakes) {
  Random random(3);
  for (int i = 0; i < 4; ++i) {
    ExpectAllowedIsWhatAcceptTakes(JsonObject(), SmallVocabulary(), random, 25);
  }
}

TEST(JsonObjectTest, TextsInTheSamePlaceShareTheirMasks) {
  const auto real = RealVocabulary();
  if (real == nullptr) {
    GTEST_SKIP() << "no shared data";
  }
  const auto grammar = MustCompile({.kind = GrammarKind::kJsonObject});
  GrammarMatcher matcher(grammar, real);
  for (const char c : std::string_view("{\"key\": \"a long text that goes on and on")) {
    (void)matcher.Allowed();
    TokenId byte = 0;
    while (real->text(byte) != std::string_view(&c, 1)) {
      ++byte;
    }
    ASSERT_TRUE(matcher.Accept(byte).ok());
  }
  // In the name and in the value; other places are quicker found anew.
  EXPECT_EQ(grammar->masks().size(), 2U);
}

}  // namespace
}  // namespace yangtuo
