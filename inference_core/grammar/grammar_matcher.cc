#include "inference_core/grammar/grammar_matcher.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

// States that one pass over a vocabulary looks at; a grammar for people needs some thousands. One
// that comes to another place with every token, as those that must repeat what came before do in
// reverse, gets the tokens of one byte beyond it and no others.
constexpr std::int64_t kMostWork = 300'000;
// Steps of a pass (some 20 us) below which its result is not worth the 7 KB of keeping it.
constexpr std::int64_t kStepsWorthKeeping = 4000;

// Tries every token of a vocabulary at one place, sharing what their texts have in common.
class VocabularyPass {
 public:
  VocabularyPass(const Automaton& automaton, const GrammarVocabulary& vocabulary)
      : simulator_(automaton), vocabulary_(vocabulary), places_(vocabulary.longest_text() + 1) {}

  TokenBits FindAllowed(const Place& place) {
    TokenBits allowed(vocabulary_.size());
    const auto nodes = vocabulary_.nodes();
    places_[0] = simulator_.Enter(place);
    for (std::size_t i = 0; i + 1 < nodes.size();) {
      const GrammarVocabulary::Node& node = nodes[i];
      if (node.depth > 0 && simulator_.work() > kMostWork) {
        i = node.end;
        continue;
      }
      ++steps_;
      const std::int32_t next = simulator_.Step(places_[node.depth], node.byte);
      if (next == Simulator::kDead) {
        i = node.end;
        continue;
      }
      places_[node.depth + 1] = next;
      ++i;
      if (node.first_token != nodes[i].first_token && CanGoOn(next)) {
        for (std::uint32_t token = node.first_token; token < nodes[i].first_token; ++token) {
          allowed.Add(vocabulary_.tokens()[token]);
        }
      }
    }
    return allowed;
  }

  // Bytes tried so far.
  [[nodiscard]] std::int64_t steps() const { return steps_; }

 private:
  // Whether the text may end at the place, or another token fits there. With all single bytes one
  // always does.
  bool CanGoOn(std::int32_t place) {
    if (vocabulary_.has_all_bytes() || simulator_.IsComplete(place)) {
      return true;
    }
    const auto at = static_cast<std::size_t>(place);
    if (at >= can_go_on_.size()) {
      can_go_on_.resize(at + 1, Answer::kUnknown);
    }
    if (can_go_on_[at] == Answer::kUnknown) {
      can_go_on_[at] = AnyTokenFits(place) ? Answer::kYes : Answer::kNo;
    }
    return can_go_on_[at] == Answer::kYes;
  }

  bool AnyTokenFits(std::int32_t place) {
    const auto nodes = vocabulary_.nodes();
    std::vector<std::int32_t> places(vocabulary_.longest_text() + 1);
    places[0] = place;
    for (std::size_t i = 0; i + 1 < nodes.size();) {
      const GrammarVocabulary::Node& node = nodes[i];
      const std::int32_t next = simulator_.Step(places[node.depth], node.byte);
      if (next == Simulator::kDead) {
        i = node.end;
        continue;
      }
      places[node.depth + 1] = next;
      ++i;
      if (node.first_token != nodes[i].first_token) {
        return true;
      }
    }
    return false;
  }

  enum class Answer : std::uint8_t { kUnknown, kYes, kNo };

  Simulator simulator_;
  const GrammarVocabulary& vocabulary_;
  std::vector<std::int32_t> places_;  // after every byte of the way down to the current node
  std::vector<Answer> can_go_on_;     // by place
  std::int64_t steps_ = 0;
};

}  // namespace

GrammarMatcher::GrammarMatcher(std::shared_ptr<const Grammar> grammar,
                               std::shared_ptr<const GrammarVocabulary> vocabulary)
    : grammar_(std::move(grammar)), vocabulary_(std::move(vocabulary)) {
  Simulator simulator(grammar_->automaton());
  place_ = simulator.Leave(simulator.Start());
}

const TokenBits& GrammarMatcher::Allowed() {
  if (allowed_ == nullptr) {
    allowed_ = grammar_->masks().Find(vocabulary_->serial(), place_);
  }
  if (allowed_ == nullptr) {
    VocabularyPass pass(grammar_->automaton(), *vocabulary_);
    allowed_ = std::make_shared<const TokenBits>(pass.FindAllowed(place_));
    if (pass.steps() >= kStepsWorthKeeping) {
      grammar_->masks().Insert(vocabulary_->serial(), place_, allowed_);
    }
  }
  return *allowed_;
}

bool GrammarMatcher::CanEnd() const { return place_.complete; }

bool GrammarMatcher::MustEnd() {
  return place_.complete && (place_.threads.empty() || Allowed().IsEmpty());
}

bool GrammarMatcher::IsStuck() { return !place_.complete && Allowed().IsEmpty(); }

absl::Status GrammarMatcher::Accept(TokenId id) {
  if (!vocabulary_->Contains(id) || vocabulary_->text(id).empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("token %d has no text, which a grammar never allows", id));
  }
  Simulator simulator(grammar_->automaton());
  std::int32_t place = simulator.Enter(place_);
  for (const char c : vocabulary_->text(id)) {
    place = simulator.Step(place, static_cast<std::uint8_t>(c));
    if (place == Simulator::kDead) {
      return absl::InvalidArgumentError(
          absl::StrFormat("token %d does not continue the text as the grammar wants it", id));
    }
  }
  place_ = simulator.Leave(place);
  allowed_ = nullptr;
  return absl::OkStatus();
}

}  // namespace yangtuo
