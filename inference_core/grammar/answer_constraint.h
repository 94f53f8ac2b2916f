#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/grammar/grammar_cache.h"
#include "inference_core/grammar/grammar_matcher.h"
#include "inference_core/grammar/grammar_spec.h"
#include "inference_core/grammar/grammar_vocabulary.h"
#include "inference_core/sampling/sampling_params.h"

namespace yangtuo {

// Holds the answer of one sequence to a grammar. One thread at a time.
class AnswerConstraint {
 public:
  // Makes impossible what may not come next in `logits` [vocab]; ids beyond the vocabulary of texts
  // too. `end_ids` stay only where the answer is complete and, unless it cannot go on, not
  // `before_least`; those with a text that fits also where nothing else does. Something always
  // stays: where a grammar is so ambiguous that no way on was found, the end.
  void Mask(std::span<float> logits, std::span<const TokenId> end_ids, bool before_least);

  // Appends what was chosen. INVALID_ARGUMENT, without a change, when it may not come next.
  absl::Status Accept(TokenId id);

 private:
  friend class AnswerConstraints;
  AnswerConstraint(GrammarMatcher matcher, const std::vector<TokenId>* not_first)
      : matcher_(std::move(matcher)), not_first_(not_first) {}

  GrammarMatcher matcher_;
  const std::vector<TokenId>* not_first_;  // of the AnswerConstraints, which outlives this
  bool at_start_ = true;
};

// What holds answers to grammars in one process: the texts of a vocabulary, and compiled grammars.
// Thread-safe.
class AnswerConstraints {
 public:
  // `texts` as GrammarVocabulary's. `not_first`: ids that no answer may begin with, because a
  // decoder gives them another text there (sentencepiece drops the space of a first piece); the
  // texts are reached through other ids. FAILED_PRECONDITION unless every byte is a token of its
  // own beside those, as in all LLaMA vocabularies: without them an answer could come to a dead
  // end.
  static absl::StatusOr<std::unique_ptr<AnswerConstraints>> Create(std::vector<std::string> texts,
                                                                   std::vector<TokenId> not_first);

  // The constraint of an answer of which `emitted` exists. INVALID_ARGUMENT: as CompileGrammar, or
  // `emitted` does not fit. Compiles in the caller's thread what it has not compiled lately.
  [[nodiscard]] absl::StatusOr<AnswerConstraint> Begin(const GrammarSpec& spec,
                                                       std::span<const TokenId> emitted);

 private:
  AnswerConstraints(std::shared_ptr<const GrammarVocabulary> vocabulary,
                    std::vector<TokenId> not_first)
      : vocabulary_(std::move(vocabulary)), not_first_(std::move(not_first)) {}

  std::shared_ptr<const GrammarVocabulary> vocabulary_;
  std::vector<TokenId> not_first_;
  GrammarCache grammars_;
};

}  // namespace yangtuo
