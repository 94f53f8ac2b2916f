#include "inference_core/tokenizer/special_tokens.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

// How Alpaca and Alpaca-2 spell the padding token that their model files hold as a normal piece.
constexpr std::string_view kPadLiterals[] = {"[PAD]", "<pad>"};

absl::Status AddTokensBehind(const HfTokenizerFiles& files, Vocabulary& vocabulary) {
  for (const auto& [id, literal] : files.added_tokens) {
    if (id == vocabulary.size() && !vocabulary.Find(literal).has_value()) {
      vocabulary.Add(literal);
    } else if (vocabulary.Find(literal) != id) {
      return absl::DataLossError(absl::StrFormat(
          "the tokenizer's JSON files give id %d to \"%s\", which does not fit the %d pieces of "
          "tokenizer.model: they come from different models",
          id, literal, vocabulary.size()));
    }
  }
  return absl::OkStatus();
}

std::optional<std::int32_t> FindOptional(const std::optional<std::string>& literal,
                                         const Vocabulary& vocabulary) {
  return literal.has_value() ? vocabulary.Find(*literal) : std::nullopt;
}

}  // namespace

absl::StatusOr<SpecialTokens> SpecialTokens::Create(const HfTokenizerFiles& files,
                                                    Vocabulary& vocabulary) {
  YANGTUO_RETURN_IF_ERROR(AddTokensBehind(files, vocabulary));
  SpecialTokens specials;
  for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
    const VocabularyPiece& piece = vocabulary.piece(id);
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown) {
      specials.AddLiteral(piece.literal, vocabulary);
    }
  }
  for (const std::string& literal : files.special_literals) {
    specials.AddLiteral(literal, vocabulary);
  }
  specials.bos_id_ = FindOptional(files.bos_token, vocabulary).value_or(vocabulary.bos_id());
  specials.eos_id_ = FindOptional(files.eos_token, vocabulary).value_or(vocabulary.eos_id());
  specials.pad_id_ = FindOptional(files.pad_token, vocabulary);
  for (const std::string_view literal : kPadLiterals) {
    specials.AddLiteral(literal, vocabulary);
    if (!specials.pad_id_.has_value()) {
      specials.pad_id_ = vocabulary.Find(literal);
    }
  }
  std::stable_sort(
      specials.specials_.begin(), specials.specials_.end(),
      [](const Special& a, const Special& b) { return a.literal.size() > b.literal.size(); });
  return specials;
}

void SpecialTokens::AddLiteral(std::string_view literal, const Vocabulary& vocabulary) {
  const std::optional<std::int32_t> id = vocabulary.Find(literal);
  const bool known = std::any_of(specials_.begin(), specials_.end(), [&](const Special& special) {
    return special.literal == literal;
  });
  // A literal without an id (a config that names a padding token its model lacks) means nothing.
  if (!id.has_value() || known) {
    return;
  }
  specials_.push_back({.literal = std::string(literal), .id = *id});
  if (first_bytes_.find(literal.front()) == std::string::npos) {
    first_bytes_.push_back(literal.front());
  }
}

const SpecialTokens::Special* SpecialTokens::MatchAt(std::string_view text) const {
  for (const Special& special : specials_) {
    if (text.starts_with(special.literal)) {
      return &special;
    }
  }
  return nullptr;
}

std::vector<SpecialSplit> SpecialTokens::Split(std::string_view text) const {
  std::vector<SpecialSplit> parts;
  std::size_t begin = 0;
  std::size_t at = text.find_first_of(first_bytes_);
  while (at != std::string_view::npos) {
    const Special* special = MatchAt(text.substr(at));
    if (special == nullptr) {
      at = text.find_first_of(first_bytes_, at + 1);
      continue;
    }
    if (at > begin) {
      parts.push_back({.text = text.substr(begin, at - begin), .special = std::nullopt});
    }
    parts.push_back({.text = {}, .special = special->id});
    begin = at + special->literal.size();
    at = text.find_first_of(first_bytes_, begin);
  }
  if (begin < text.size()) {
    parts.push_back({.text = text.substr(begin), .special = std::nullopt});
  }
  return parts;
}

}  // namespace yangtuo
