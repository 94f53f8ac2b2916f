#include "inference_core/tokenizer/merge_tokenizers.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/utf8.h"

namespace yangtuo {
namespace {

constexpr char kByteOrderMark[] = "\xEF\xBB\xBF";

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U; }

// Where each character of valid UTF-8 begins, and the end.
std::vector<std::size_t> CharacterBorders(std::string_view text) {
  std::vector<std::size_t> borders;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!IsContinuation(text[i])) {
      borders.push_back(i);
    }
  }
  borders.push_back(text.size());
  return borders;
}

using Scores = std::unordered_map<std::string_view, float>;

// Whether merging the characters of `literal` ends in one symbol.
bool MergesToOne(std::string_view literal, const Scores& scores) {
  std::vector<std::size_t> borders = CharacterBorders(literal);
  while (borders.size() > 2) {
    std::optional<std::size_t> best;  // of the border that goes
    float best_score = 0;
    for (std::size_t i = 1; i + 1 < borders.size(); ++i) {
      const auto pair =
          scores.find(literal.substr(borders[i - 1], borders[i + 1] - borders[i - 1]));
      if (pair != scores.end() && (!best.has_value() || pair->second > best_score)) {
        best = i;
        best_score = pair->second;
      }
    }
    if (!best.has_value()) {
      return false;
    }
    borders.erase(borders.begin() + static_cast<std::ptrdiff_t>(*best));
  }
  return true;
}

bool ComesOutOfMerges(const ModelPiece& piece) {
  return piece.type == PieceType::kNormal || piece.type == PieceType::kUnused;
}

}  // namespace

absl::StatusOr<PieceSource> PiecesOfModel(std::string_view model, std::string_view origin) {
  YANGTUO_ASSIGN_OR_RETURN(ModelPieces found, ReadModelPieces(model, origin));
  PieceSource source{.origin = std::string(origin), .literals = {}};
  for (ModelPiece& piece : found.pieces) {
    if (piece.type == PieceType::kControl || piece.type == PieceType::kUnknown ||
        piece.type == PieceType::kByte) {
      ++source.passed_over;
      continue;
    }
    if (piece.literal.empty() || !IsValidUtf8(piece.literal)) {
      return absl::DataLossError(
          absl::StrFormat("%s: piece %d is not valid UTF-8", origin,
                          static_cast<std::int64_t>(source.literals.size()) + source.passed_over));
    }
    source.literals.push_back(std::move(piece.literal));
  }
  return source;
}

absl::StatusOr<PieceSource> PiecesOfWords(std::string_view text, std::string_view origin) {
  if (text.starts_with(kByteOrderMark)) {
    text.remove_prefix(std::size(kByteOrderMark) - 1);
  }
  PieceSource source{.origin = std::string(origin), .literals = {}};
  for (std::int64_t line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string word(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    absl::StripAsciiWhitespace(&word);
    if (word.empty()) {
      continue;
    }
    if (!IsValidUtf8(word)) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: line %d is not UTF-8; convert the list first (iconv -f GB18030 -t UTF-8)", origin,
          line));
    }
    if (std::any_of(word.begin(), word.end(),
                    [](char c) { return absl::ascii_iscntrl(static_cast<unsigned char>(c)); })) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "%s: line %d has a control character; a list has one word a line", origin, line));
    }
    source.literals.push_back(absl::StrReplaceAll(word, {{" ", kSpaceSymbol.data()}}));
  }
  if (source.literals.empty()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected one word a line, found none", origin));
  }
  return source;
}

std::vector<std::int32_t> UnreachablePieces(const std::vector<ModelPiece>& pieces) {
  Scores scores;
  for (const ModelPiece& piece : pieces) {
    if (ComesOutOfMerges(piece) || piece.type == PieceType::kUserDefined) {
      scores.emplace(piece.literal, piece.score);
    }
  }
  std::vector<std::int32_t> unreachable;
  for (std::size_t id = 0; id < pieces.size(); ++id) {
    const ModelPiece& piece = pieces[id];
    // Encoding writes every space as "▁", so no text has a piece with a space in it.
    if (ComesOutOfMerges(piece) &&
        (piece.literal.find(' ') != std::string::npos || !MergesToOne(piece.literal, scores))) {
      unreachable.push_back(static_cast<std::int32_t>(id));
    }
  }
  return unreachable;
}

absl::StatusOr<TokenizerMerge> MergeTokenizers(std::string_view base, std::string_view origin,
                                               const std::vector<PieceSource>& sources,
                                               const std::string& pad_token) {
  YANGTUO_RETURN_IF_ERROR(Vocabulary::Parse(base, origin).status());
  YANGTUO_ASSIGN_OR_RETURN(ModelPieces old, ReadModelPieces(base, origin));
  if (old.algorithm != PieceAlgorithm::kBpe) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: expected a LLaMA tokenizer, whose pieces are merged byte pairs (BPE); this one is of "
        "another algorithm, where pieces without a trained probability would never be chosen",
        origin));
  }
  TokenizerMerge merge;
  merge.base_pieces = static_cast<std::int32_t>(old.pieces.size());
  std::unordered_set<std::string> known;
  for (const ModelPiece& piece : old.pieces) {
    known.insert(piece.literal);
  }
  for (const PieceSource& source : sources) {
    merge.passed_over += source.passed_over;
    for (const std::string& literal : source.literals) {
      if (known.insert(literal).second) {
        merge.added.push_back(literal);
      } else {
        ++merge.duplicates;
      }
    }
  }
  const bool adds_pad = !pad_token.empty() && known.insert(pad_token).second;
  if (adds_pad) {
    merge.added.push_back(pad_token);
  }
  YANGTUO_ASSIGN_OR_RETURN(merge.model, AppendPieces(base, merge.added, origin));

  const std::vector<std::int32_t> before = UnreachablePieces(old.pieces);
  for (const std::string& literal : merge.added) {
    old.pieces.push_back({.literal = literal});
  }
  for (const std::int32_t id : UnreachablePieces(old.pieces)) {
    if (id < merge.base_pieces) {
      if (!std::binary_search(before.begin(), before.end(), id)) {
        merge.hidden.push_back(id);
      }
    } else if (!adds_pad || id + 1 < static_cast<std::int32_t>(old.pieces.size())) {
      merge.unreachable.push_back(id);  // a padding token is not meant to come out of text
    }
  }
  return merge;
}

}  // namespace yangtuo
