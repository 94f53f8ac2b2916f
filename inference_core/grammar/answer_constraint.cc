#include "inference_core/grammar/answer_constraint.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

// Makes everything outside `allowed` impossible.
void KeepOnly(const TokenBits& allowed, std::span<float> logits) {
  const std::span<const std::uint64_t> words = allowed.words();
  const std::size_t known = std::min(logits.size(), static_cast<std::size_t>(allowed.size()));
  for (std::size_t first = 0; first < known; first += 64) {
    const std::uint64_t word = words[first / 64];
    const std::size_t count = std::min<std::size_t>(64, known - first);
    if (word == 0) {
      std::fill_n(logits.begin() + static_cast<std::ptrdiff_t>(first), count, kImpossible);
      continue;
    }
    for (std::size_t i = 0; i < count; ++i) {
      if ((word >> i & 1U) == 0) {
        logits[first + i] = kImpossible;
      }
    }
  }
  std::fill(logits.begin() + static_cast<std::ptrdiff_t>(known), logits.end(), kImpossible);
}

}  // namespace

void AnswerConstraint::Mask(std::span<float> logits, std::span<const TokenId> end_ids,
                            bool before_least) {
  const TokenBits& allowed = matcher_.Allowed();
  const bool ends = (matcher_.CanEnd() && (!before_least || matcher_.MustEnd())) ||
                    // Only where a grammar has more ways on than are looked at.
                    matcher_.IsStuck();
  std::vector<std::pair<std::size_t, float>> kept;
  for (const TokenId id : end_ids) {
    if (ends && id >= 0 && static_cast<std::size_t>(id) < logits.size()) {
      kept.emplace_back(static_cast<std::size_t>(id), logits[static_cast<std::size_t>(id)]);
    }
  }
  KeepOnly(allowed, logits);
  if (at_start_) {
    for (const TokenId id : *not_first_) {
      if (static_cast<std::size_t>(id) < logits.size()) {
        logits[static_cast<std::size_t>(id)] = kImpossible;
      }
    }
  }
  if (ends) {
    for (const auto& [id, logit] : kept) {
      logits[id] = logit;
    }
    return;
  }
  // An end that has a text would end an answer that is not complete, or too soon.
  for (const TokenId id : end_ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= logits.size()) {
      continue;
    }
    const float logit = std::exchange(logits[static_cast<std::size_t>(id)], kImpossible);
    if (logit != kImpossible) {
      kept.emplace_back(static_cast<std::size_t>(id), logit);
    }
  }
  const bool any_left = kept.empty() || std::any_of(logits.begin(), logits.end(), [](float logit) {
                          return logit != kImpossible;
                        });
  if (!any_left) {
    for (const auto& [id, logit] : kept) {
      logits[id] = logit;
    }
  }
}

absl::Status AnswerConstraint::Accept(TokenId id) {
  YANGTUO_RETURN_IF_ERROR(matcher_.Accept(id));
  at_start_ = false;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<AnswerConstraints>> AnswerConstraints::Create(
    std::vector<std::string> texts, std::vector<TokenId> not_first) {
  auto vocabulary = std::make_shared<const GrammarVocabulary>(std::move(texts));
  // Also at the beginning of an answer.
  std::vector<bool> found(256);
  for (TokenId id = 0; id < vocabulary->size(); ++id) {
    const std::string_view text = vocabulary->text(id);
    if (text.size() == 1 && std::find(not_first.begin(), not_first.end(), id) == not_first.end()) {
      found[static_cast<std::uint8_t>(text.front())] = true;
    }
  }
  if (std::find(found.begin(), found.end(), false) != found.end()) {
    return absl::FailedPreconditionError(
        "the tokenizer has no token for some bytes, so that an answer held to a grammar could come "
        "to a dead end");
  }
  // Not make_unique: the constructor is private.
  return std::unique_ptr<AnswerConstraints>(
      new AnswerConstraints(std::move(vocabulary), std::move(not_first)));
}

absl::StatusOr<AnswerConstraint> AnswerConstraints::Begin(const GrammarSpec& spec,
                                                          std::span<const TokenId> emitted) {
  YANGTUO_ASSIGN_OR_RETURN(std::shared_ptr<const Grammar> grammar, grammars_.Get(spec));
  AnswerConstraint constraint(GrammarMatcher(std::move(grammar), vocabulary_), &not_first_);
  for (std::size_t i = 0; i < emitted.size(); ++i) {
    if (!constraint.Accept(emitted[i]).ok()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "token %d of the answer so far, id %d, does not fit the constraint", i, emitted[i]));
    }
  }
  return constraint;
}

}  // namespace yangtuo
