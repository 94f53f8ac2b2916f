#include "services/inference/tokenizer_fit.h"

#include <string_view>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/grammar/answer_constraint.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {
namespace {

// What the published models of these sizes are, and what belongs to them.
const char* FamilyOfPieces(std::int32_t pieces) {
  switch (pieces) {
    case 32000:
      return "LLaMA's and Llama-2's tokenizer, for embeddings of 32000 rows";
    case 49953:
      return "Chinese-LLaMA's tokenizer, for embeddings of 49953 rows, or 49954 with [PAD]";
    case 49954:
      return "Chinese-Alpaca's tokenizer, for embeddings of 49954 rows";
    case 55296:
      return "Chinese-LLaMA-2's and Chinese-Alpaca-2's tokenizer, for embeddings of 55296 rows";
    default:
      return nullptr;
  }
}

const char* FamilyOfRows(std::int32_t rows) {
  switch (rows) {
    case 32000:
      return "LLaMA or Llama-2, whose tokenizer has 32000 pieces";
    case 49953:
      return "Chinese-LLaMA, whose tokenizer has 49953 pieces";
    case 49954:
      return "Chinese-Alpaca, whose tokenizer has 49953 pieces and [PAD], or 49954 pieces";
    case 55296:
      return "Chinese-LLaMA-2 or Chinese-Alpaca-2, whose tokenizer has 55296 pieces";
    default:
      return nullptr;
  }
}

// Null when not every byte is a token.
std::shared_ptr<AnswerConstraints> ConstraintsOf(const Vocabulary& vocabulary) {
  std::vector<std::string> texts;
  std::vector<TokenId> not_first;
  for (std::int32_t id = 0; id < vocabulary.size(); ++id) {
    const VocabularyPiece& piece = vocabulary.piece(id);
    const bool is_text = piece.type == PieceType::kNormal || piece.type == PieceType::kByte ||
                         piece.type == PieceType::kUserDefined;
    texts.push_back(is_text ? piece.text : std::string());
    // The decoder may drop the space, depending on what the answer follows.
    if (is_text && piece.literal.starts_with(kSpaceSymbol)) {
      not_first.push_back(id);
    }
  }
  auto constraints = AnswerConstraints::Create(std::move(texts), std::move(not_first));
  return constraints.ok() ? *std::move(constraints) : nullptr;
}

}  // namespace

absl::Status CheckTokenizerFit(std::int32_t pieces, std::int32_t rows,
                               const std::string& tokenizer) {
  if (pieces <= rows) {
    return absl::OkStatus();
  }
  std::string text = absl::StrFormat(
      "%s has %d pieces, but the model's embedding has only %d rows: the tokenizer is another "
      "model's",
      tokenizer, pieces, rows);
  if (const char* family = FamilyOfPieces(pieces)) {
    text += absl::StrFormat("; %d pieces are %s", pieces, family);
  }
  if (const char* family = FamilyOfRows(rows)) {
    text += absl::StrFormat("; %d rows are %s", rows, family);
  }
  return absl::FailedPreconditionError(text + "; put the right tokenizer.model beside the weights");
}

absl::StatusOr<KnownTokenizer> CheckTokenizerOf(const Checkpoint& checkpoint) {
  if (checkpoint.tokenizer_model.empty()) {
    return KnownTokenizer{};
  }
  const std::string name = checkpoint.tokenizer_file.empty()
                               ? absl::StrFormat("the tokenizer in %s", checkpoint.path.string())
                               : checkpoint.tokenizer_file.string();
  YANGTUO_ASSIGN_OR_RETURN(const Vocabulary vocabulary,
                           Vocabulary::Parse(checkpoint.tokenizer_model, name));
  YANGTUO_RETURN_IF_ERROR(CheckTokenizerFit(vocabulary.size(), checkpoint.config.vocab, name));
  return KnownTokenizer{.digest = vocabulary.digest(), .constraints = ConstraintsOf(vocabulary)};
}

}  // namespace yangtuo
