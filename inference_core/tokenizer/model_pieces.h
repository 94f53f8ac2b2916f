#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {

// A piece as a sentencepiece model file lists it. Its id is its place.
struct ModelPiece {
  std::string literal;
  float score = 0;
  PieceType type = PieceType::kNormal;
  friend bool operator==(const ModelPiece&, const ModelPiece&) = default;
};

enum class PieceAlgorithm : std::uint8_t { kUnigram, kBpe, kOther };

// What a model file says, without checking that it can encode. DATA_LOSS names `origin`.
struct ModelPieces {
  PieceAlgorithm algorithm = PieceAlgorithm::kUnigram;
  std::vector<ModelPiece> pieces;
};
absl::StatusOr<ModelPieces> ReadModelPieces(std::string_view model, std::string_view origin);

// The bytes of `model` with `literals` behind its own pieces, each with score 0 written out and no
// type (NORMAL): the way the published Chinese-LLaMA tokenizers were made, so that the same pieces
// give the same bytes. Settings and whatever this schema does not know stay as they are.
absl::StatusOr<std::string> AppendPieces(std::string_view model,
                                         std::span<const std::string> literals,
                                         std::string_view origin);

// What a GGUF file says of a tokenizer of model "llama" beside its pieces.
struct BpeSettings {
  std::int32_t unk_id = 0;
  std::int32_t bos_id = 1;
  std::int32_t eos_id = 2;
  std::optional<std::int32_t> pad_id = {};
  bool add_dummy_prefix = true;  // a space in front of every text
  bool remove_extra_whitespaces = false;
};

// A sentencepiece model file that encodes as llama.cpp does with these pieces: byte-pair merges by
// score, no normalization, bytes for characters outside the vocabulary. DATA_LOSS for pieces that
// make no such tokenizer (an id outside, byte pieces that are not all 256), naming `origin`.
absl::StatusOr<std::string> MakeBpeModel(std::span<const ModelPiece> pieces,
                                         const BpeSettings& settings, std::string_view origin);

// The numbers that sentencepiece and GGUF's tokenizer.ggml.token_type give to piece types.
// kAdded is sentencepiece's user-defined.
[[nodiscard]] std::int32_t PieceTypeNumber(PieceType type);
[[nodiscard]] std::optional<PieceType> PieceTypeOf(std::int32_t number);

}  // namespace yangtuo
