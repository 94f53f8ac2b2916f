#include <cmath>
#include <cstdio>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/inference_core/grammar/grammar_walks.h"
#include "tests/inference_core/grammar/random_json.h"
#include "tests/inference_core/grammar/random_schema.h"
#include "tests/inference_core/grammar/schema_validator.h"

namespace yangtuo {
namespace {

using nlohmann::json;
using ::testing::AnyOf;
using ::testing::HasSubstr;

GrammarSpec Schema(std::string text) {
  return {.kind = GrammarKind::kJsonSchema, .text = std::move(text)};
}

std::string Quoted(const std::string& text) {
  std::string quoted(1, '"');
  quoted += text;
  quoted += '"';
  return quoted;
}

// [1,1,...]
std::string Ones(int count) {
  return json(std::vector<int>(static_cast<std::size_t>(count), 1)).dump();
}

// Draws texts and checks them with the other validator; some as tokens of a real vocabulary.
void ExpectTextsAreValid(const std::string& text, int rounds, Random& random) {
  const auto grammar = MustCompile(Schema(text));
  ASSERT_NE(grammar, nullptr);
  const json schema = json::parse(text);
  const auto real = RealVocabulary();
  for (int i = 0; i < rounds; ++i) {
    const auto made =
        RandomText(grammar, i % 4 == 0 && real != nullptr ? real : SmallVocabulary(), random);
    ASSERT_TRUE(made.has_value()) << text;
    const json value = json::parse(*made, nullptr, /*allow_exceptions=*/false);
    ASSERT_FALSE(value.is_discarded()) << *made;
    ASSERT_TRUE(IsValid(schema, value, schema)) << text << "\nmade " << *made;
  }
}

void ExpectMatches(const std::string& schema, const std::vector<std::string>& good,
                   const std::vector<std::string>& bad) {
  const auto grammar = MustCompile(Schema(schema));
  ASSERT_NE(grammar, nullptr);
  for (const std::string& text : good) {
    EXPECT_TRUE(Matches(grammar, text)) << schema << " on " << text;
    EXPECT_TRUE(IsValid(json::parse(schema), json::parse(text), json::parse(schema))) << text;
  }
  for (const std::string& text : bad) {
    EXPECT_FALSE(Matches(grammar, text)) << schema << " on " << text;
  }
}

constexpr char kStrict[] = R"({
  "type": "object",
  "properties": {
    "name": {"type": "string", "description": "who"},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "tags": {"type": "array", "items": {"type": "string", "enum": ["甲", "乙", "a\"b"]}},
    "address": {"type": ["object", "null"],
                "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{6}$"}},
                "required": ["street", "zip"], "additionalProperties": false},
    "score": {"anyOf": [{"type": "number"}, {"type": "null"}]}
  },
  "required": ["name", "age", "tags", "address", "score"],
  "additionalProperties": false
})";

constexpr char kRecursive[] = R"({
  "$defs": {"node": {"type": "object",
    "properties": {"value": {"type": "integer"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                   "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
    "required": ["value", "children"], "additionalProperties": false}},
  "$ref": "#/$defs/node"})";

TEST(JsonSchemaTest, StrictSchemasOfOpenAi) {
  ExpectMatches(
      kStrict,
      {R"({"name":"x","age":150,"tags":["甲","a\"b"],"address":{"street":"","zip":"100871"},"score":1.5})",
       R"({"name": "春", "age": 0, "tags": [], "address": null, "score": null})"},
      {R"({"name":"x","age":151,"tags":[],"address":null,"score":null})",
       R"({"name":"x","age":1,"tags":["丙"],"address":null,"score":null})",
       R"({"name":"x","age":1,"tags":[],"address":null})",
       R"({"age":1,"name":"x","tags":[],"address":null,"score":null})",
       R"({"name":"x","age":1,"tags":[],"address":{"street":"","zip":"1"},"score":1})",
       R"({"name":"x","age":1,"tags":[],"address":null,"score":null,"more":1})"});
  Random random(1);
  ExpectTextsAreValid(kStrict, 60, random);
}

TEST(JsonSchemaTest, RecursiveReferences) {
  ExpectMatches(kRecursive,
                {R"({"value":1,"children":[{"value":2,"children":[]}]})",
                 R"({"value":1,"children":[],"next":{"value":3,"children":[],"next":null}})"},
                {R"({"value":1})", R"({"value":1,"children":[1]})"});
  Random random(2);
  ExpectTextsAreValid(kRecursive, 40, random);
}

TEST(JsonSchemaTest, OptionalPropertiesInOrderAndOthersAfterThem) {
  ExpectMatches(
      R"({"properties":{"a":{"const":1},"b":{"const":2},"c":{"const":3}},"required":["b"]})",
      {R"({"b":2})", R"({"a":1,"b":2})", R"({"b":2,"c":3})", R"({"a":1, "b":2, "c":3})"},
      {"{}", R"({"a":1})", R"({"b":2,"a":1})", R"({"b":2,"d":1})", R"({,"b":2})", R"({"b":2,})"});
  ExpectMatches(R"({"type":"object","properties":{"a":{"const":1},"b":{"const":2}}})",
                {"{}", R"({"a":1})", R"({"b":2})"}, {R"({"x":1})", "{ }"});
  ExpectMatches(
      R"({"properties":{"a":{"const":1},"人":{"const":2}},"additionalProperties":{"type":"integer"}})",
      {"{}", R"({"x":1})", R"({"a":1,"x":1,"y":2})", R"({"ab":7})", R"({"\n":7})", R"({"人人":3})"},
      {R"({"a":3})", R"({"\u0061":3})", R"({"人":3})", R"({"\u4eba":3})", R"({"\u4EBA":3})",
       R"({"x":"y"})", R"({"a":1,"a":2})"});
  ExpectMatches(R"({"type":"object"})", {"{}", R"({"x":[1,{"y":null}]})"}, {"[]"});
  ExpectMatches(R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"x":1})"});
  ExpectMatches(R"({"type":"object","required":["q"]})", {R"({"q":[]})", R"({"q":1,"r":2})"},
                {"{}"});
}

TEST(JsonSchemaTest, Arrays) {
  ExpectMatches(R"({"type":"array","items":{"const":1},"minItems":2,"maxItems":3})",
                {"[1,1]", "[1, 1, 1]", "[\n  1,\n  1\n]"}, {"[]", "[1]", "[1,1,1,1]", "[1,1,]"});
  ExpectMatches(R"({"type":"array","items":{"type":"boolean"},"maxItems":1})", {"[]", "[true]"},
                {"[true,true]"});
  ExpectMatches(R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"});
  ExpectMatches(R"({"type":"array","items":false})", {"[]"}, {"[1]"});
  ExpectMatches(
      R"({"prefixItems":[{"const":1},{"const":2}],"items":{"const":3},"minItems":1,"maxItems":4})",
      {"[1]", "[1,2]", "[1,2,3]", "[1,2,3,3]"}, {"[]", "[2]", "[1,3]", "[1,2,3,3,3]"});
  ExpectMatches(R"({"prefixItems":[{"const":1},{"const":2}]})", {"[]", "[1]", "[1,2]"},
                {"[1,2,3]"});
  ExpectMatches(R"({"prefixItems":[{"const":1},{"const":2}],"maxItems":1})", {"[]", "[1]"},
                {"[1,2]"});
  ExpectMatches(R"({"type":"array","items":{"const":1},"minItems":30,"maxItems":500})",
                {Ones(30), Ones(500)}, {"[1]", Ones(29), Ones(501)});
}

TEST(JsonSchemaTest, Strings) {
  ExpectMatches(
      R"({"type":"string","minLength":1,"maxLength":2})",
      {R"("a")", R"("人工")", R"("\u4eba\n")", R"("\ud83e\udd99x")", "\"\xF0\x9F\xA6\x99!\""},
      {R"("")", R"("abc")", R"("\ud83e")"});
  ExpectMatches(R"({"type":"string","pattern":"b+"})", {R"("abc")", R"("b")"}, {R"("a")", R"("")"});
  ExpectMatches(R"({"type":"string","pattern":"^a.+c$","minLength":3})", {R"("abc")", R"("a人c")"},
                {R"("ac")", R"("xabc")"});
  ExpectMatches(R"({"type":"string","pattern":"^[^a]{2,}$","maxLength":3})",
                {R"("\"\\")", R"("\n\u0001")", R"("bcd")"}, {R"("bcde")", R"("ab")"});
  // Long ones are written in parts.
  for (const auto& [low, high] : {std::pair(0, 200), std::pair(130, 300), std::pair(64, 129),
                                  std::pair(128, 256), std::pair(100, 100000), std::pair(0, 192)}) {
    const auto grammar =
        MustCompile(Schema(R"({"type":"string","minLength":)" + std::to_string(low) +
                           R"(,"maxLength":)" + std::to_string(high) + "}"));
    for (const int length : {0,   1,   63,  64,  65,  99,  100, 101, 127, 128, 129, 130,
                             191, 192, 193, 200, 201, 255, 256, 257, 299, 300, 301, 320}) {
      std::string text = "\"";
      for (int i = 0; i < length; ++i) {
        text += i % 3 == 0 ? "人" : i % 3 == 1 ? "x" : "\\n";
      }
      ASSERT_EQ(Matches(grammar, text + "\""), low <= length && length <= high)
          << low << " " << high << " " << length;
    }
  }
  const auto open = MustCompile(Schema(R"({"type":"string","minLength":150})"));
  EXPECT_FALSE(Matches(open, Quoted(std::string(149, 'x'))));
  EXPECT_TRUE(Matches(open, Quoted(std::string(150, 'x'))));
  EXPECT_TRUE(Matches(open, Quoted(std::string(1500, 'x'))));
}

TEST(JsonSchemaTest, Formats) {
  const auto expect = [](const std::string& format, const std::vector<std::string>& good,
                         const std::vector<std::string>& bad) {
    const auto grammar = MustCompile(Schema(R"({"type":"string","format":")" + format + "\"}"));
    for (const std::string& text : good) {
      EXPECT_TRUE(Matches(grammar, Quoted(text))) << format << " " << text;
    }
    for (const std::string& text : bad) {
      EXPECT_FALSE(Matches(grammar, Quoted(text))) << format << " " << text;
    }
  };
  expect("date", {"2026-11-27", "2024-02-29", "2000-02-29"},
         {"2026-02-29", "1900-02-29", "2026-13-01", "2026-04-31", "2026-1-1", "26-01-01"});
  expect("time", {"23:59:59Z", "00:00:00.123+08:00"}, {"24:00:00Z", "12:00Z", "12:00:00"});
  expect("date-time", {"2026-11-27T19:15:00Z"}, {"2026-11-27 19:15:00Z", "2026-11-27"});
  expect("duration", {"P1Y2M3DT4H5M6S", "PT1H", "P3W", "P1D"}, {"P", "PT", "1D", "P1YT"});
  expect("uuid", {"123e4567-E89b-12d3-a456-426614174000"}, {"123e4567e89b12d3a456426614174000"});
  expect("ipv4", {"0.0.0.0", "255.249.199.99"}, {"256.0.0.1", "1.2.3", "01.2.3.4"});
  expect("ipv6", {"::", "::1", "1:2:3:4:5:6:7:8", "fe80::1", "1:2:3:4:5:6::", "1::3:4:5:6:7"},
         {":", "1:2:3:4:5:6:7", "1::2::3", "12345::", "1:2:3:4:5:6:7:8:9"});
  expect("hostname", {"example.com", "a-b.c"}, {"-a", "a..b", "a_b"});
  expect("email", {"a.b@example.com", "x+y@b.cd"}, {"a@b", "@b.c", "a b@c.de", ".a@b.cd"});
  expect("uri", {"https://example.com/a?b=c#d", "mailto:a@b.c"}, {"example", "http://a b"});
}

TEST(JsonSchemaTest, IntegerBoundsAreExact) {
  Random random(3);
  for (int i = 0; i < 150; ++i) {
    const auto any = [&]() -> std::int64_t {
      const auto wide = static_cast<std::int64_t>(random() % 2'000'000) - 1'000'000;
      return wide / (random() % 2 == 0 ? 1 : 9973);
    };
    const std::int64_t low = any();
    const std::int64_t high = low + std::abs(any());
    const bool exclusive = random() % 3 == 0;
    json schema = {{"type", "integer"}};
    const int sides = static_cast<int>(random() % 3);
    if (sides != 1) {
      schema[exclusive ? "exclusiveMinimum" : "minimum"] = low;
    }
    if (sides != 2) {
      schema[exclusive ? "exclusiveMaximum" : "maximum"] = high;
    }
    const auto compiled = CompileGrammar(Schema(schema.dump()));
    if (!compiled.ok()) {
      ASSERT_TRUE(exclusive && high - low <= 1) << schema;
      continue;
    }
    for (int j = 0; j < 60; ++j) {
      const std::int64_t value = j < 8    ? low + j - 4
                                 : j < 16 ? high + j - 12
                                 : j < 20 ? j - 18
                                          : any();
      ASSERT_EQ(Matches(*compiled, std::to_string(value)), IsValid(schema, value, schema))
          << schema << " " << value;
    }
  }
  ExpectMatches(R"({"type":"integer","minimum":0.5,"maximum":3.5})", {"1", "3"},
                {"0", "4", "01", "1.0"});
  ExpectMatches(R"({"type":"integer","minimum":-5,"exclusiveMaximum":0})", {"-5", "-1"},
                {"0", "-0", "-6"});
  ExpectMatches(R"({"type":"integer","maximum":9007199254740993})",
                {"9007199254740993", "-999999999999999999"}, {"9007199254740994"});
  ExpectMatches(R"({"type":"integer","minimum":-1e30,"maximum":1e30})", {"999999999999999999"}, {});
}

TEST(JsonSchemaTest, NumberBounds) {
  Random random(4);
  for (int i = 0; i < 150; ++i) {
    const auto any = [&] {
      const double scale[] = {1, 10, 1000, 100000};
      return (static_cast<double>(random() % 2001) - 1000) / scale[random() % 4];
    };
    json schema = {{"type", "number"}};
    const double low = any();
    const double high = std::round((low + std::abs(any())) * 1e5) / 1e5;
    const bool exclusive = random() % 2 == 0;
    const int sides = static_cast<int>(random() % 3);
    if (sides != 1) {
      schema[exclusive ? "exclusiveMinimum" : "minimum"] = low;
    }
    if (sides != 2) {
      schema[exclusive ? "exclusiveMaximum" : "maximum"] = high;
    }
    const auto compiled = CompileGrammar(Schema(schema.dump()));
    if (!compiled.ok()) {
      ASSERT_TRUE(exclusive && low == high) << schema;
      continue;
    }
    for (int j = 0; j < 100; ++j) {
      const double value = j == 0 ? low : j == 1 ? high : j < 50 ? low + any() / 100 : any();
      char text[64];
      std::snprintf(text, sizeof(text), "%.*f", static_cast<int>(random() % 7), value);
      const json parsed = json::parse(text);
      ASSERT_EQ(Matches(*compiled, text), IsValid(schema, parsed, schema)) << schema << " " << text;
    }
    const auto made = RandomText(*compiled, SmallVocabulary(), random, 12);
    ASSERT_TRUE(made.has_value());
    ASSERT_TRUE(IsValid(schema, json::parse(*made), schema)) << schema << " made " << *made;
  }
  // Digits that round to the bound itself.
  ExpectMatches(R"({"type":"number","exclusiveMaximum":1})",
                {"0.99999999999999", "-3.5", "0", "-0"}, {"0.99999999999999999999", "1", "1.0"});
  ExpectMatches(R"({"type":"number","exclusiveMinimum":1})", {"1.0000000000001", "2"},
                {"1.00000000000000000001", "1", "1.000"});
  ExpectMatches(R"({"type":"number","exclusiveMinimum":0})",
                {"0.8444218515250481", "0.00000000000000000001"}, {});
}

TEST(JsonSchemaTest, EnumConstAnyOfAllOf) {
  ExpectMatches(R"({"enum":["a",1,null,true,{"x":[1,2]},1.5]})",
                {R"("a")", "1", "null", "true", R"({"x":[1,2]})", R"({"x": [1, 2]})", "1.5"},
                {R"("b")", "2", "{}"});
  ExpectMatches(R"({"type":"string","enum":["a",1,"abc"],"maxLength":1})", {R"("a")"},
                {"1", R"("abc")"});
  ExpectMatches(R"({"enum":["ab","cd"],"pattern":"a"})", {R"("ab")"}, {R"("cd")"});
  ExpectMatches(R"({"type":"number","enum":[1,2.5,7],"minimum":2})", {"2.5", "7"}, {"1"});
  ExpectMatches(R"({"oneOf":[{"type":"string"},{"type":"integer"}]})", {R"("x")", "3"}, {"null"});
  ExpectMatches(R"({"type":"string","nullable":true,"enum":["a"]})", {R"("a")", "null"},
                {R"("b")"});
  ExpectMatches(
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},
          "anyOf":[{"required":["a"]},{"required":["b"]}]})",
      {R"({"a":1})", R"({"b":1})", R"({"a":1,"b":2})"}, {"{}"});
  ExpectMatches(
      R"({"allOf":[{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]},
                   {"properties":{"b":{"type":"string"},"a":{"minimum":5}},"required":["b"]}]})",
      {R"({"a":5,"b":""})"}, {R"({"a":4,"b":""})", R"({"a":5})", R"({"b":"","a":5})"});
  ExpectMatches(
      R"({"allOf":[{"type":["integer","string"]},{"type":["number","null"]}],"maximum":3})", {"3"},
      {"4", "1.5", R"("x")", "null"});
  ExpectMatches(R"({"$defs":{"p":{"type":"integer"}},"$ref":"#/$defs/p","minimum":7})", {"7"},
                {"6"});
  ExpectMatches(
      R"({"allOf":[{"anyOf":[{"const":1},{"const":2}]},{"anyOf":[{"const":2},{"const":3}]}]})",
      {"2"}, {"1", "3"});
  ExpectMatches(R"({"$defs":{"a/b":{"const":1},"c d":{"const":2}},"anyOf":[{"$ref":"#/$defs/a~1b"},
                    {"$ref":"#/$defs/c%20d"}]})",
                {"1"}, {"3"});
}

TEST(JsonSchemaTest, RecursionThroughAllOf) {
  const auto grammar = MustCompile(Schema(
      R"({"$defs":{"base":{"type":"object","properties":{"id":{"type":"integer"}},"required":["id"]},
          "tree":{"allOf":[{"$ref":"#/$defs/base"},{"properties":{"left":{"$ref":"#/$defs/tree"},
                  "right":{"allOf":[{"$ref":"#/$defs/tree"},{"required":["left"]}]}}}]}},
          "$ref":"#/$defs/tree"})"));
  ASSERT_NE(grammar, nullptr);
  EXPECT_TRUE(Matches(grammar, R"({"id":1,"left":{"id":2},"right":{"id":3,"left":{"id":4}}})"));
  EXPECT_FALSE(Matches(grammar, R"({"id":1,"right":{"id":3}})"));
}

TEST(JsonSchemaTest, SaysWhereAndWhatItDoesNotSupport) {
  EXPECT_THAT(WhyRefused(Schema(R"({"properties":{"a":{"not":{}}}})")),
              HasSubstr("at '#/properties/a': 'not' is not supported"));
  for (const std::string key :
       {"if", "patternProperties", "propertyNames", "dependentRequired", "contains",
        "minProperties", "maxProperties", "unevaluatedProperties", "$dynamicRef"}) {
    EXPECT_THAT(WhyRefused(Schema("{\"type\":\"object\",\"" + key + "\":{}}")),
                HasSubstr("'" + key + "' is not supported"));
  }
  EXPECT_THAT(WhyRefused(Schema(R"({"type":"array","uniqueItems":true})")),
              HasSubstr("uniqueItems"));
  EXPECT_THAT(WhyRefused(Schema(R"({"type":"integer","multipleOf":3})")), HasSubstr("multipleOf"));
  EXPECT_THAT(WhyRefused(Schema(R"({"type":"string","format":"color"})")), HasSubstr("color"));
  EXPECT_THAT(WhyRefused(Schema(R"x({"items":{"pattern":"(?=a)"}})x")),
              HasSubstr("at '#/items': regular expression, at byte 0: look-around"));
  EXPECT_THAT(WhyRefused(Schema(R"({"type":"strnig"})")), HasSubstr("unknown 'type' \"strnig\""));
  EXPECT_THAT(WhyRefused(Schema(R"({"$ref":"http://x/y"})")), HasSubstr("within the document"));
  EXPECT_THAT(WhyRefused(Schema(R"({"$ref":"#/$defs/a"})")), HasSubstr("leads to nothing"));
  EXPECT_THAT(WhyRefused(Schema(R"({"anyOf":[]})")), HasSubstr("'anyOf' is not an array"));
  EXPECT_THAT(WhyRefused(Schema(R"({"enum":[]})")), HasSubstr("'enum' is not an array"));
  EXPECT_THAT(WhyRefused(Schema(R"({"minLength":-1})")), HasSubstr("'minLength'"));
  EXPECT_THAT(WhyRefused(Schema(R"({"required":1})")), HasSubstr("'required'"));
  EXPECT_THAT(WhyRefused(Schema(R"({"properties":{"a":3}})")),
              HasSubstr("at '#/properties/a': expected a schema"));
  EXPECT_THAT(WhyRefused(Schema(R"({"allOf":[{"pattern":"a"},{"pattern":"b"}]})")),
              HasSubstr("two different 'pattern'"));
  EXPECT_THAT(WhyRefused(Schema("{")), HasSubstr("JSON schema: not JSON"));
  EXPECT_THAT(WhyRefused(Schema("[]")), HasSubstr("expected a JSON object"));
  EXPECT_THAT(WhyRefused(Schema(R"({"type":"string","type":"null"})")), HasSubstr("twice"));
  EXPECT_THAT(WhyRefused(Schema(R"({"allOf":[{"type":"string"},{"type":"null"}]})")),
              HasSubstr("matches no text"));
  EXPECT_THAT(WhyRefused(Schema(R"({"type":"integer","minimum":5,"maximum":4})")),
              HasSubstr("matches no text"));
}

TEST(JsonSchemaTest, KeywordsHoldWhereEveryTypeIsListed) {
  const std::string types =
      R"("type":["array","boolean","integer","null","number","object","string"])";
  ExpectMatches("{" + types + R"(,"maximum":3,"minLength":5})", {"3", "null", "[1]", R"("abcde")"},
                {"4", R"("x")"});
  ExpectMatches("{" + types + "}", {"4", R"("x")", R"({"a":[]})"}, {"x"});
}

TEST(JsonSchemaTest, PartsOfAllOfKeepWhatTheyForbid) {
  EXPECT_THAT(
      WhyRefused(Schema(
          R"({"allOf":[{"prefixItems":[{"type":"string"}]},{"items":{"type":"string","maxLength":1}}]})")),
      HasSubstr("cannot be joined"));
  const auto only_strings =
      MustCompile(Schema(R"({"allOf":[{"type":"string","nullable":true},{"type":"string"}]})"));
  ASSERT_NE(only_strings, nullptr);
  EXPECT_TRUE(Matches(only_strings, R"("a")"));
  EXPECT_FALSE(Matches(only_strings, "null"));
  const auto both = MustCompile(
      Schema(R"({"allOf":[{"type":"string","nullable":true},{"type":["string","null"]}]})"));
  ASSERT_NE(both, nullptr);
  EXPECT_TRUE(Matches(both, "null"));
}

TEST(JsonSchemaTest, ListedValuesObeyTheOtherKeywords) {
  ExpectMatches(R"({"type":"number","enum":[1.5,2],"multipleOf":1})", {"2"}, {"1.5"});
  ExpectMatches(R"({"enum":["ab","b",3,"ca"],"pattern":"^[ab]"})", {R"("ab")", R"("b")", "3"},
                {R"("ca")", R"("a")"});
}

TEST(JsonSchemaTest, AnEmptyArrayIsWrittenInOneWay) {
  for (const char* const schema : {R"({"type":"array","items":{"type":"null"}})",
                                   R"({"type":"array","prefixItems":[{"type":"null"}]})",
                                   R"({"type":"array","maxItems":0})"}) {
    const auto grammar = MustCompile(Schema(schema));
    ASSERT_NE(grammar, nullptr);
    EXPECT_TRUE(Matches(grammar, "[]")) << schema;
    EXPECT_FALSE(Matches(grammar, "[ ]")) << schema;
    EXPECT_FALSE(Matches(grammar, "[\n\n]")) << schema;
  }
}

TEST(JsonSchemaTest, AllowedIsWhatAcceptTakes) {
  Random random(5);
  for (const char* const schema : {kStrict, kRecursive}) {
    ExpectAllowedIsWhatAcceptTakes(MustCompile(Schema(schema)), SmallVocabulary(), random, 30);
  }
}

TEST(JsonSchemaTest, RandomSchemasMakeValidTextsAndTakeValidOnes) {
  Random random(6);
  int taken = 0;
  for (int i = 0; i < 250; ++i) {
    const json schema = RandomSchema(random, 3);
    const auto compiled = CompileGrammar(Schema(schema.dump()));
    ASSERT_TRUE(compiled.ok()) << schema << compiled.status();
    for (int j = 0; j < 6; ++j) {
      const auto made = RandomText(*compiled, SmallVocabulary(), random, 30);
      ASSERT_TRUE(made.has_value()) << schema;
      const json value = json::parse(*made, nullptr, /*allow_exceptions=*/false);
      ASSERT_FALSE(value.is_discarded()) << *made;
      ASSERT_TRUE(IsValid(schema, value, schema)) << schema << "\nmade " << *made;
      const json instance = RandomInstance(schema, random);
      ASSERT_TRUE(IsValid(schema, instance, schema)) << schema << "\nwrong " << instance;
      for (const int indent : {-1, 2}) {
        ASSERT_TRUE(Matches(*compiled, instance.dump(indent))) << schema << "\non " << instance;
      }
      ASSERT_TRUE(MatchesAsTokens(*compiled, SmallVocabulary(), instance.dump()));
      ++taken;
      // What the other validator refuses is not a text of the grammar.
      const json other = RandomJson(random, 2);
      if (!IsValid(schema, other, schema)) {
        ASSERT_FALSE(Matches(*compiled, other.dump())) << schema << "\non " << other;
      }
    }
  }
  EXPECT_EQ(taken, 1500);
}

}  // namespace
}  // namespace yangtuo
