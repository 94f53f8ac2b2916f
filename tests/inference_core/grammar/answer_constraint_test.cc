#include "inference_core/grammar/answer_constraint.h"

#include <cmath>
#include <cstdint>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

namespace yangtuo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr TokenId kEnd = 256;     // control: no text
constexpr TokenId kSpaced = 257;  // " a", whose space a decoder may drop
constexpr TokenId kWord = 258;    // "ab"
constexpr std::size_t kVocab = 300;

std::vector<std::string> Texts() {
  std::vector<std::string> texts;
  for (int byte = 0; byte < 256; ++byte) {
    texts.emplace_back(1, static_cast<char>(byte));
  }
  texts.insert(texts.end(), {"", " a", "ab"});
  return texts;
}

std::unique_ptr<AnswerConstraints> Constraints() {
  auto made = AnswerConstraints::Create(Texts(), {kSpaced});
  EXPECT_TRUE(made.ok()) << made.status();
  return *std::move(made);
}

// The ids that may come next.
std::vector<TokenId> Possible(AnswerConstraint& constraint, const std::vector<TokenId>& end_ids,
                              bool before_least = false) {
  std::vector<float> logits(kVocab, 1.0F);
  constraint.Mask(logits, end_ids, before_least);
  std::vector<TokenId> possible;
  for (std::size_t id = 0; id < logits.size(); ++id) {
    EXPECT_TRUE(logits[id] == 1.0F || std::isinf(logits[id]));
    if (logits[id] == 1.0F) {
      possible.push_back(static_cast<TokenId>(id));
    }
  }
  return possible;
}

TEST(AnswerConstraintTest, OnlyWhatLeadsToATextIsPossibleAndTheEndWhereItIsComplete) {
  const auto constraints = Constraints();
  auto answer = constraints->Begin({.kind = GrammarKind::kRegex, .text = "aba?"}, {});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(Possible(*answer, {kEnd}), ElementsAre('a', kWord));
  ASSERT_TRUE(answer->Accept(kWord).ok());
  EXPECT_THAT(Possible(*answer, {kEnd}), ElementsAre('a', kEnd));
  EXPECT_THAT(Possible(*answer, {kEnd}, true), ElementsAre('a'));
  ASSERT_TRUE(answer->Accept('a').ok());
  EXPECT_THAT(Possible(*answer, {kEnd}), ElementsAre(kEnd));
  EXPECT_THAT(Possible(*answer, {kEnd}, true), ElementsAre(kEnd)) << "it cannot go on";
  EXPECT_TRUE(absl::IsInvalidArgument(answer->Accept('a')));
}

TEST(AnswerConstraintTest, AnAnswerDoesNotBeginWithAPieceWhoseSpaceMayBeDropped) {
  const auto constraints = Constraints();
  auto answer = constraints->Begin({.kind = GrammarKind::kRegex, .text = " a a"}, {});
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(Possible(*answer, {kEnd}), ElementsAre(' '));
  ASSERT_TRUE(answer->Accept(' ').ok());
  ASSERT_TRUE(answer->Accept('a').ok());
  EXPECT_THAT(Possible(*answer, {kEnd}), ElementsAre(' ', kSpaced));
}

TEST(AnswerConstraintTest, AStopTokenWithATextObeysTheGrammar) {
  const auto constraints = Constraints();
  auto answer = constraints->Begin({.kind = GrammarKind::kRegex, .text = "ab"}, {});
  ASSERT_TRUE(answer.ok());
  // Were they masked before the end, nothing would be left.
  EXPECT_THAT(Possible(*answer, {'a', kWord}, true), ElementsAre('a', kWord));
}

TEST(AnswerConstraintTest, AStopTokenWithATextEndsNoAnswerThatIsIncomplete) {
  const auto constraints = Constraints();
  auto answer = constraints->Begin({.kind = GrammarKind::kRegex, .text = "(a|b)(b|c)*"}, {});
  ASSERT_TRUE(answer.ok());
  EXPECT_THAT(Possible(*answer, {kEnd, 'a'}), ElementsAre('b', kWord));
  ASSERT_TRUE(answer->Accept('b').ok());
  EXPECT_THAT(Possible(*answer, {kEnd, 'b'}), ElementsAre('b', 'c', kEnd));
  EXPECT_THAT(Possible(*answer, {kEnd, 'b'}, true), ElementsAre('c'));
}

TEST(AnswerConstraintTest, AnAnswerGoesOnFromWhatExists) {
  const auto constraints = Constraints();
  const GrammarSpec spec = {.kind = GrammarKind::kChoice, .choices = {"abba", "bab"}};
  const std::vector<TokenId> emitted = {kWord, 'b'};
  auto answer = constraints->Begin(spec, emitted);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(Possible(*answer, {kEnd}), ElementsAre('a'));
  const std::vector<TokenId> unfit = {kWord, 'a'};
  const absl::Status status = constraints->Begin(spec, unfit).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("token 1 of the answer so far, id 97"));
  EXPECT_TRUE(absl::IsInvalidArgument(
      constraints->Begin({.kind = GrammarKind::kRegex, .text = "("}, {}).status()));
}

TEST(AnswerConstraintTest, AVocabularyWithoutEveryByteIsRefused) {
  EXPECT_TRUE(absl::IsFailedPrecondition(AnswerConstraints::Create(Texts(), {' '}).status()))
      << "no answer could begin with a space";
  std::vector<std::string> texts = Texts();
  texts['x'] = "xx";
  EXPECT_TRUE(absl::IsFailedPrecondition(AnswerConstraints::Create(texts, {}).status()));
}

}  // namespace
}  // namespace yangtuo
