#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

#include "inference_core/grammar/grammar_cache.h"
#include "tests/inference_core/grammar/grammar_walks.h"

namespace yangtuo {
namespace {

using ::testing::HasSubstr;

TEST(GrammarVocabularyTest, KnowsWhetherEveryByteIsAToken) {
  EXPECT_TRUE(SmallVocabulary()->has_all_bytes());
  EXPECT_FALSE(GrammarVocabulary({"a", "b", ""}).has_all_bytes());
  if (RealVocabulary() != nullptr) {
    EXPECT_TRUE(RealVocabulary()->has_all_bytes());
  }
}

TEST(GrammarMatcherTest, AcceptChangesNothingWhenItRefuses) {
  GrammarMatcher matcher(MustCompile({.kind = GrammarKind::kRegex, .text = "abc"}),
                         SmallVocabulary());
  const absl::Status refused = matcher.Accept('b');
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("token 98"));
  EXPECT_EQ(matcher.Accept(256).code(), absl::StatusCode::kInvalidArgument) << "has no text";
  EXPECT_EQ(matcher.Accept(-1).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(matcher.Accept(1 << 20).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(matcher.Accept('a').ok());
  EXPECT_TRUE(matcher.Accept('b').ok());
  EXPECT_TRUE(matcher.Accept('c').ok());
  EXPECT_TRUE(matcher.MustEnd());
}

TEST(GrammarMatcherTest, WithoutByteTokensAvoidsAWayIntoNowhere) {
  // Nothing can follow "ac", because no token begins with what must come then.
  const auto vocabulary =
      std::make_shared<const GrammarVocabulary>(std::vector<std::string>{"a", "b", "c", "ac"});
  GrammarMatcher matcher(MustCompile({.kind = GrammarKind::kRegex, .text = "a(b|cd)"}), vocabulary);
  EXPECT_FALSE(matcher.Allowed().Contains(3));
  ASSERT_TRUE(matcher.Accept(0).ok());
  EXPECT_TRUE(matcher.Allowed().Contains(1));
  EXPECT_FALSE(matcher.Allowed().Contains(2));
  EXPECT_FALSE(matcher.IsStuck());

  GrammarMatcher stuck(MustCompile({.kind = GrammarKind::kRegex, .text = "xyz"}), vocabulary);
  EXPECT_TRUE(stuck.IsStuck());
  EXPECT_FALSE(stuck.MustEnd());
}

TEST(GrammarCacheTest, CompilesOnceAndForgetsTheOldest) {
  GrammarCache cache({.grammars = 2});
  const GrammarSpec a{.kind = GrammarKind::kRegex, .text = "a"};
  const GrammarSpec b{.kind = GrammarKind::kRegex, .text = "b"};
  const GrammarSpec c{.kind = GrammarKind::kChoice, .choices = {"b"}};
  const auto first = *cache.Get(a);
  EXPECT_EQ(*cache.Get(a), first);
  EXPECT_NE(*cache.Get(b), first);
  EXPECT_EQ(*cache.Get(a), first);
  ASSERT_TRUE(cache.Get(c).ok());  // b was used least recently
  EXPECT_EQ(cache.size(), 2U);
  EXPECT_EQ(*cache.Get(a), first);
  EXPECT_FALSE(cache.Get({.kind = GrammarKind::kRegex, .text = "("}).ok());
  EXPECT_EQ(cache.size(), 2U);
}

TEST(GrammarCacheTest, DoesNotTakeOneListOfChoicesForAnother) {
  GrammarCache cache;
  const auto one = *cache.Get({.kind = GrammarKind::kChoice, .choices = {"a1:b"}});
  const auto two = *cache.Get({.kind = GrammarKind::kChoice, .choices = {"a", "b"}});
  EXPECT_NE(one, two);
}

TEST(GrammarCacheTest, StaysWithinItsBytes) {
  GrammarCache cache({.grammars = 100, .bytes = 20'000});
  for (int i = 1; i < 20; ++i) {
    ASSERT_TRUE(
        cache.Get({.kind = GrammarKind::kRegex, .text = "x{" + std::to_string(i * 30) + "}"}).ok());
  }
  EXPECT_LT(cache.size(), 10U);
  EXPECT_GE(cache.size(), 1U);
}

TEST(GrammarCacheTest, ManyThreadsFollowTheSameGrammar) {
  GrammarCache cache;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&cache, i] {
      Random random(static_cast<std::uint32_t>(i));
      for (int round = 0; round < 10; ++round) {
        const auto grammar = cache.Get({.kind = GrammarKind::kJsonObject});
        ASSERT_TRUE(grammar.ok());
        ASSERT_TRUE(RandomText(*grammar, SmallVocabulary(), random, 30).has_value());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(cache.size(), 1U);
}

}  // namespace
}  // namespace yangtuo
