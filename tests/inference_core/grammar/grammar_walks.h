#pragma once

// What the tests of all kinds of grammars share: vocabularies, texts pushed through, and random
// texts drawn from what a grammar allows.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "inference_core/grammar/grammar.h"
#include "inference_core/grammar/grammar_matcher.h"
#include "inference_core/grammar/grammar_vocabulary.h"
#include "tests/inference_core/grammar/random.h"

namespace yangtuo {

// Id i is byte i.
std::shared_ptr<const GrammarVocabulary> ByteVocabulary();

// The 256 bytes, then pieces that cut across every kind of place, an empty one (the end of text)
// and one piece twice.
std::shared_ptr<const GrammarVocabulary> SmallVocabulary();

// A real tokenizer's, null where the shared data is missing.
std::shared_ptr<const GrammarVocabulary> RealVocabulary();

// Fails the test, and returns null, when it does not compile.
std::shared_ptr<const Grammar> MustCompile(const GrammarSpec& spec);

// The message with which it does not compile.
std::string WhyRefused(const GrammarSpec& spec);

// Whether the whole text is one of the grammar's, byte by byte.
bool Matches(const std::shared_ptr<const Grammar>& grammar, std::string_view text);

// The same with the longest tokens first; every one must be in Allowed().
bool MatchesAsTokens(const std::shared_ptr<const Grammar>& grammar,
                     const std::shared_ptr<const GrammarVocabulary>& vocabulary,
                     std::string_view text);

// Draws allowed tokens until the text may end, and then ends it with some probability; goes for
// the shortest tokens that lead somewhere after `patience` of them. Nullopt, and a failed test,
// when it comes to a place where nothing is allowed, or does not end.
std::optional<std::string> RandomText(const std::shared_ptr<const Grammar>& grammar,
                                      const std::shared_ptr<const GrammarVocabulary>& vocabulary,
                                      Random& random, int patience = 60);

// Fails the test unless Allowed() is what Accept takes, at the places of a random text.
void ExpectAllowedIsWhatAcceptTakes(const std::shared_ptr<const Grammar>& grammar,
                                    const std::shared_ptr<const GrammarVocabulary>& vocabulary,
                                    Random& random, int tokens);

}  // namespace yangtuo
