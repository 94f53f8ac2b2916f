// What hostile and large JSON schemas may cost.

#include <ctime>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>

#include "absl/strings/str_format.h"
#include "tests/inference_core/grammar/grammar_walks.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

GrammarSpec Schema(std::string text) {
  return {.kind = GrammarKind::kJsonSchema, .text = std::move(text)};
}

TEST(JsonSchemaBoundsTest, HostileSchemasEndSoonWithAnError) {
  const std::clock_t begin = std::clock();  // busy machines take longer, not more
  EXPECT_THAT(WhyRefused(Schema(R"({"$ref":"#"})")),
              AnyOf(HasSubstr("matches no text"), HasSubstr("refers to itself")));
  EXPECT_THAT(WhyRefused(Schema(R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})")),
              HasSubstr("refers to itself"));
  EXPECT_THAT(WhyRefused(Schema(R"({"allOf":[{"$ref":"#"},{"type":"null"}]})")),
              HasSubstr("circle"));
  EXPECT_THAT(WhyRefused(Schema(R"({"required":["a"],"properties":{"a":{"$ref":"#"}}})")),
              HasSubstr("matches no text"));
  EXPECT_THAT(WhyRefused(Schema(R"({"$defs":{"a":{"type":"object","anyOf":[{"$ref":"#/$defs/a"},
                                   {"required":["x"]}]}},"$ref":"#/$defs/a"})")),
              HasSubstr("in a circle"));
  // Many schemas for one property.
  std::string many = R"({"allOf":[)";
  for (int i = 0; i < 3000; ++i) {
    many += std::string(i == 0 ? "" : ",") + R"({"properties":{"x":{"minimum":)" +
            std::to_string(i) + "}}}";
  }
  EXPECT_THAT(WhyRefused(Schema(many + "]}")), HasSubstr("too large"));
  std::string product = R"({"allOf":[)";
  for (int i = 0; i < 40; ++i) {
    product += std::string(i == 0 ? "" : ",") + R"({"anyOf":[{"minimum":)" + std::to_string(i) +
               R"(},{"maximum":)" + std::to_string(i) + "}]}";
  }
  EXPECT_THAT(WhyRefused(Schema(product + "]}")), HasSubstr("alternatives"));
  std::string wide = R"({"properties":{)";
  for (int i = 0; i < 1001; ++i) {
    wide += std::string(i == 0 ? "" : ",") + "\"p" + std::to_string(i) + R"(":{"type":"null"})";
  }
  EXPECT_THAT(WhyRefused(Schema(wide + "}}")), HasSubstr("more than 1000 properties"));
  // Doubling at every level.
  std::string doubling = R"({"$defs":{"d0":{"type":"string"})";
  for (int i = 1; i < 60; ++i) {
    const std::string before = std::to_string(i - 1);
    doubling += ",\"d" + std::to_string(i) +
                R"(":{"allOf":[{"properties":{"a":{"allOf":[{"$ref":"#/$defs/d)" + before +
                R"("},{"title":"x"}]}}},{"properties":{"b":{"allOf":[{"$ref":"#/$defs/d)" + before +
                R"("},{"title":"y"}]}}}]})";
  }
  (void)WhyRefused(Schema(doubling + R"(},"$ref":"#/$defs/d59"})"));
  EXPECT_THAT(WhyRefused(Schema(std::string(200, '[') + std::string(200, ']'))), HasSubstr("deep"));
  EXPECT_THAT(
      WhyRefused(Schema(R"({"type":"string","pattern":"(.{0,1000}a){0,1000}","maxLength":5000})")),
      HasSubstr("too large"));
  EXPECT_LT(std::clock() - begin, 60 * CLOCKS_PER_SEC);
}

TEST(JsonSchemaBoundsTest, ManyPropertiesCompileSoon) {
  std::string text = R"({"type":"object","properties":{)";
  for (int i = 0; i < 1000; ++i) {
    text += std::string(i == 0 ? "" : ",") + "\"property_" + std::to_string(i) +
            R"(":{"type":["string","integer","null"]})";
  }
  text += "}}";
  const std::clock_t begin = std::clock();  // busy machines take longer, not more
  const auto grammar = MustCompile(Schema(text));
  ASSERT_NE(grammar, nullptr);
  EXPECT_LT(std::clock() - begin, 20 * CLOCKS_PER_SEC);
  EXPECT_TRUE(Matches(grammar, R"({"property_0":"x","property_999":7})"));
  EXPECT_FALSE(Matches(grammar, R"({"property_999":7,"property_0":"x"})"));
}

// Requests of 64 KiB that would be gigabytes when written out.
TEST(JsonSchemaBoundsTest, WhatGrowsWhenItIsWrittenOutIsBounded) {
  const std::clock_t begin = std::clock();
  const std::string dots(60'000, '.');
  const auto long_text = MustCompile(Schema(R"({"pattern":"^)" + dots.substr(0, 500) + R"($"})"));
  EXPECT_NE(long_text, nullptr);
  EXPECT_THAT(WhyRefused(Schema(R"({"pattern":")" + dots + R"("})")), HasSubstr("too large"));
  std::string values;
  for (int i = 0; i < 9000; ++i) {
    values += i == 0 ? R"("")" : R"(,"")";
  }
  EXPECT_THAT(WhyRefused(Schema(R"({"enum":[)" + values + R"(],"pattern":")" +
                                dots.substr(0, 30'000) + R"("})")),
              HasSubstr("too large"));
  std::string alternatives;
  for (int i = 0; i < 2000; ++i) {
    alternatives += absl::StrFormat(R"(%s{"maxLength":%d})", i == 0 ? "" : ",", 90'000 + i);
  }
  EXPECT_THAT(WhyRefused(Schema(R"({"type":"string","anyOf":[)" + alternatives + "]}")),
              HasSubstr("too large"));
  std::string properties;
  for (int i = 0; i < 900; ++i) {
    properties += absl::StrFormat(R"(%s"p%d":{})", i == 0 ? "" : ",", i);
  }
  std::string parts = R"({"$ref":"#/$defs/a"})";
  for (int i = 0; i < 200; ++i) {
    parts += absl::StrFormat(R"(,{"title":"%d","$ref":"#/$defs/a"})", i);
  }
  (void)WhyRefused(Schema(R"({"$defs":{"a":{"type":"object","properties":{)" + properties +
                          R"(}}},"allOf":[)" + parts + "]}"));
  EXPECT_LT(std::clock() - begin, 60 * CLOCKS_PER_SEC);
}

}  // namespace
}  // namespace yangtuo
