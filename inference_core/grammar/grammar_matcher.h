#pragma once

#include <memory>

#include "absl/status/status.h"
#include "inference_core/grammar/grammar.h"
#include "inference_core/grammar/grammar_vocabulary.h"
#include "inference_core/grammar/simulator.h"
#include "inference_core/grammar/token_bits.h"
#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// Follows one text through a grammar and says which tokens may come next. One per sequence; not
// thread-safe, but any number of them may share grammar and vocabulary in different threads.
//
// With a vocabulary that has all single bytes, from every place that Accept leads to there is an
// allowed token or CanEnd(), and a way to a complete text.
class GrammarMatcher {
 public:
  // At the beginning of a text. Cheap.
  GrammarMatcher(std::shared_ptr<const Grammar> grammar,
                 std::shared_ptr<const GrammarVocabulary> vocabulary);

  // The tokens that may come next, of the vocabulary's size; valid until Accept. Tokens without a
  // text (the end of text among them) are never in it: see CanEnd. A pass over the vocabulary's
  // trie the first time any text comes to this place of the grammar (0.7 ms where all of 55,296
  // pieces have to be looked at), a look-up or a pass of microseconds afterwards.
  [[nodiscard]] const TokenBits& Allowed();

  // The text so far is complete: it may end here.
  [[nodiscard]] bool CanEnd() const;
  // It may end here and nothing can follow.
  [[nodiscard]] bool MustEnd();
  // It may neither end here nor go on: only without has_all_bytes(). A token after which this would
  // be so is not allowed, but two steps ahead are not seen.
  [[nodiscard]] bool IsStuck();

  // Appends a token: one that was chosen, or one of a text that is resumed. INVALID_ARGUMENT, and
  // no change, for one that the grammar does not allow; needs no Allowed() before it.
  absl::Status Accept(TokenId id);

 private:
  std::shared_ptr<const Grammar> grammar_;
  std::shared_ptr<const GrammarVocabulary> vocabulary_;
  Place place_;
  std::shared_ptr<const TokenBits> allowed_;  // at place_; null: not asked for yet
};

}  // namespace yangtuo
