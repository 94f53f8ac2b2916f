#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/tokenizer/model_pieces.h"

namespace yangtuo {

// What is to be added to a tokenizer, in order.
struct PieceSource {
  std::string origin;                 // for messages
  std::vector<std::string> literals;  // as pieces are spelled: "▁Hello", "人工智能"
  std::int32_t passed_over = 0;       // control, unknown and byte pieces: every model has its own
};

// The pieces of another sentencepiece model, of any algorithm.
absl::StatusOr<PieceSource> PiecesOfModel(std::string_view model, std::string_view origin);

// One word a line: UTF-8, spaces at its ends do not count, those within become "▁" (so does an
// underscore nobody wrote: put "▁" before a word that is to begin after a space). INVALID_ARGUMENT
// names the line: not UTF-8, or a control character in it. Empty lines are fine; a list without a
// word is not.
absl::StatusOr<PieceSource> PiecesOfWords(std::string_view text, std::string_view origin);

struct TokenizerMerge {
  std::string model;  // the new model file
  std::int32_t base_pieces = 0;
  std::vector<std::string> added;  // literals in id order, the first has id base_pieces
  std::int32_t duplicates = 0;     // asked for, but there already (or asked for twice)
  std::int32_t passed_over = 0;
  // Ids that encoding can never produce (see UnreachablePieces): of the added pieces, and of the
  // base where an added piece now wins.
  std::vector<std::int32_t> unreachable;
  std::vector<std::int32_t> hidden;
};

// `base` (a LLaMA tokenizer: byte-pair merges) with every new piece of `sources` behind its own,
// then `pad_token` unless that is empty or there. INVALID_ARGUMENT for a base of another algorithm.
absl::StatusOr<TokenizerMerge> MergeTokenizers(std::string_view base, std::string_view origin,
                                               const std::vector<PieceSource>& sources,
                                               const std::string& pad_token);

// Ids of pieces that no text encodes to, in a byte-pair model. Merges inside a span happen in the
// same order (best score, then leftmost) whatever stands around it as long as none crosses its
// border, so a piece can come out of some text only if the characters of the piece, merged alone,
// become that piece. Control and unknown pieces and bytes are not looked at.
[[nodiscard]] std::vector<std::int32_t> UnreachablePieces(const std::vector<ModelPiece>& pieces);

}  // namespace yangtuo
