#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace yangtuo {

inline constexpr std::string_view kSpaceSymbol =
    "\xE2\x96\x81";  // U+2581: how pieces spell a space

enum class PieceType : std::uint8_t {
  kNormal,
  kUnknown,      // stands for text outside the vocabulary; one per model
  kControl,      // <s>, </s>: never produced from text, decodes to nothing
  kUserDefined,  // sentencepiece always splits it out of text as a whole
  kUnused,
  kByte,   // <0x00>..<0xFF>
  kAdded,  // beyond the .model file: from added_tokens.json or tokenizer_config.json
};

// One id.
struct VocabularyPiece {
  std::string literal;  // as the model file spells it: "▁Hello", "<0x0A>", "</s>"
  std::string text;     // the bytes it decodes to alone, a leading space kept: " Hello", "\n", ""
  PieceType type = PieceType::kNormal;
  float score = 0;
};

// The pieces of a sentencepiece model file, without the library that encodes with them: enough to
// decode, to compare with a model's embedding, and to tell two tokenizers apart. Immutable once
// built, thread-safe.
class Vocabulary {
 public:
  // Checks everything that sentencepiece would otherwise trust. DATA_LOSS for damaged files, which
  // `origin` names, UNIMPLEMENTED for a denormalizer.
  static absl::StatusOr<Vocabulary> Parse(std::string_view model, std::string_view origin);

  [[nodiscard]] std::int32_t size() const { return static_cast<std::int32_t>(pieces_.size()); }
  [[nodiscard]] bool Contains(std::int32_t id) const { return id >= 0 && id < size(); }
  // `id` is inside.
  [[nodiscard]] const VocabularyPiece& piece(std::int32_t id) const {
    return pieces_[static_cast<std::size_t>(id)];
  }
  [[nodiscard]] std::optional<std::int32_t> Find(std::string_view literal) const;
  // INVALID_ARGUMENT that names the first id outside.
  [[nodiscard]] absl::Status CheckId(std::int32_t id) const;

  [[nodiscard]] std::int32_t bos_id() const { return bos_id_; }
  [[nodiscard]] std::int32_t eos_id() const { return eos_id_; }
  // SHA-256 of the model file, hexadecimal.
  [[nodiscard]] const std::string& digest() const { return digest_; }
  // Whether decoding drops the space that encoding put in front of a text.
  [[nodiscard]] bool drops_leading_space() const { return drops_leading_space_; }
  // With it, the spaces of every piece in front of the first text are dropped, not of one only.
  [[nodiscard]] bool drops_extra_spaces() const { return drops_extra_spaces_; }

  // No token stands for more bytes of a text. Nothing when that is not known: without byte pieces a
  // run of unknown characters is one token, and normalizers shorten texts.
  [[nodiscard]] std::optional<std::size_t> longest_token_bytes() const {
    return keeps_every_byte_ ? std::optional(longest_piece_bytes_) : std::nullopt;
  }

  // Gives `literal` the next id.
  void Add(std::string literal);

 private:
  Vocabulary() = default;

  std::vector<VocabularyPiece> pieces_;
  std::unordered_map<std::string, std::int32_t> ids_;
  std::string digest_;
  std::int32_t bos_id_ = 0;
  std::int32_t eos_id_ = 0;
  bool drops_leading_space_ = true;
  bool drops_extra_spaces_ = false;
  bool keeps_every_byte_ = false;
  std::size_t longest_piece_bytes_ = 0;
};

}  // namespace yangtuo
