#include "inference_core/tokenizer/vocabulary.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/model_pieces.h"
#include "inference_core/tokenizer/normalizer_charsmap.h"
#include "inference_core/tokenizer/sentencepiece_model.pb.h"
#include "inference_core/tokenizer/utf8.h"

namespace yangtuo {
namespace {

constexpr std::size_t kMaxModelBytes = std::size_t{256} << 20;

// "<0x0A>" -> 10.
std::optional<std::uint8_t> ByteOf(std::string_view literal) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  if (literal.size() != 6 || !literal.starts_with("<0x") || literal.back() != '>') {
    return std::nullopt;
  }
  const std::size_t high = kDigits.find(literal[3]);
  const std::size_t low = kDigits.find(literal[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) {
    return std::nullopt;
  }
  return static_cast<std::uint8_t>(high * 16 + low);
}

std::string DecodedText(const VocabularyPiece& piece, const spm::TrainerSpec& trainer) {
  switch (piece.type) {
    case PieceType::kControl:
      return "";
    case PieceType::kUnknown:
      return trainer.unk_surface();
    case PieceType::kByte:
      return std::string(1, static_cast<char>(*ByteOf(piece.literal)));
    default:
      return absl::StrReplaceAll(piece.literal, {{kSpaceSymbol.data(), " "}});
  }
}

absl::Status CheckPiece(const spm::SentencePiece& piece) {
  if (piece.piece().empty()) {
    return absl::DataLossError("it is empty");
  }
  if (!IsValidUtf8(piece.piece()) || piece.piece().find('\0') != std::string::npos) {
    return absl::DataLossError("its text is not valid UTF-8");
  }
  if (!std::isfinite(piece.score())) {
    return absl::DataLossError("its score is not a number");
  }
  if (piece.type() == spm::SentencePiece::BYTE && !ByteOf(piece.piece()).has_value()) {
    return absl::DataLossError(
        absl::StrFormat("a byte piece is spelled <0x00>..<0xFF>, not \"%s\"", piece.piece()));
  }
  return absl::OkStatus();
}

struct ModelSpecs {
  spm::TrainerSpec trainer;
  spm::NormalizerSpec normalizer;
};

absl::StatusOr<ModelSpecs> ReadSpecs(const spm::ModelProto& model, std::string_view origin) {
  ModelSpecs specs;
  spm::NormalizerSpec denormalizer;
  if (!specs.trainer.ParseFromString(model.trainer_spec()) ||
      !specs.normalizer.ParseFromString(model.normalizer_spec()) ||
      !denormalizer.ParseFromString(model.denormalizer_spec())) {
    return absl::DataLossError(
        absl::StrFormat("%s: its trainer or normalizer settings are damaged", origin));
  }
  if (!denormalizer.precompiled_charsmap().empty()) {
    return absl::UnimplementedError(
        absl::StrFormat("%s: models with a denormalizer are not supported", origin));
  }
  if (const absl::Status sound = CheckNormalizerCharsmap(specs.normalizer.precompiled_charsmap());
      !sound.ok()) {
    return absl::DataLossError(
        absl::StrFormat("%s: its normalizer is damaged: %s", origin, std::string(sound.message())));
  }
  return specs;
}

}  // namespace

absl::StatusOr<Vocabulary> Vocabulary::Parse(std::string_view model, std::string_view origin) {
  spm::ModelProto proto;
  if (model.empty() || model.size() > kMaxModelBytes ||
      !proto.ParseFromArray(model.data(), static_cast<int>(model.size())) ||
      proto.pieces().empty()) {
    return absl::DataLossError(absl::StrFormat(
        "%s: expected a sentencepiece model, found %d bytes that are none (cut short, or a "
        "pointer file of git-lfs?)",
        origin, model.size()));
  }
  YANGTUO_ASSIGN_OR_RETURN(const ModelSpecs specs, ReadSpecs(proto, origin));

  Vocabulary vocabulary;
  vocabulary.digest_ = Sha256Hex(model);
  vocabulary.drops_extra_spaces_ = specs.normalizer.remove_extra_whitespaces();
  vocabulary.drops_leading_space_ =
      specs.normalizer.add_dummy_prefix() || vocabulary.drops_extra_spaces_;
  vocabulary.keeps_every_byte_ = specs.trainer.byte_fallback() &&
                                 specs.normalizer.precompiled_charsmap().empty() &&
                                 !vocabulary.drops_extra_spaces_;
  int num_unknown = 0;
  for (const spm::SentencePiece& piece : proto.pieces()) {
    const std::int32_t id = vocabulary.size();
    absl::Status status = CheckPiece(piece);
    if (status.ok() && !vocabulary.ids_.emplace(piece.piece(), id).second) {
      status = absl::DataLossError(absl::StrFormat("\"%s\" is there twice", piece.piece()));
    }
    if (!status.ok()) {
      return absl::DataLossError(
          absl::StrFormat("%s: piece %d: %s", origin, id, std::string(status.message())));
    }
    VocabularyPiece entry{.literal = piece.piece(),
                          .text = "",
                          .type = PieceTypeOf(piece.type()).value_or(PieceType::kNormal),
                          .score = piece.score()};
    entry.text = DecodedText(entry, specs.trainer);
    num_unknown += entry.type == PieceType::kUnknown ? 1 : 0;
    vocabulary.longest_piece_bytes_ =
        std::max(vocabulary.longest_piece_bytes_, entry.literal.size());
    vocabulary.pieces_.push_back(std::move(entry));
  }
  const std::optional<std::int32_t> bos = vocabulary.Find(specs.trainer.bos_piece());
  const std::optional<std::int32_t> eos = vocabulary.Find(specs.trainer.eos_piece());
  if (num_unknown != 1 || !bos.has_value() || !eos.has_value()) {
    return absl::DataLossError(absl::StrFormat(
        "%s: expected one unknown piece, \"%s\" and \"%s\"; found %d unknown pieces%s%s", origin,
        specs.trainer.bos_piece(), specs.trainer.eos_piece(), num_unknown,
        bos.has_value() ? "" : ", no begin of text", eos.has_value() ? "" : ", no end of text"));
  }
  vocabulary.bos_id_ = *bos;
  vocabulary.eos_id_ = *eos;
  return vocabulary;
}

std::optional<std::int32_t> Vocabulary::Find(std::string_view literal) const {
  const auto found = ids_.find(std::string(literal));
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

absl::Status Vocabulary::CheckId(std::int32_t id) const {
  if (Contains(id)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrFormat("token id %u is outside the vocabulary of %d",
                                                    static_cast<std::uint32_t>(id), size()));
}

void Vocabulary::Add(std::string literal) {
  ids_.emplace(literal, size());
  longest_piece_bytes_ = std::max(longest_piece_bytes_, literal.size());
  VocabularyPiece piece{
      .literal = literal, .text = std::move(literal), .type = PieceType::kAdded, .score = 0};
  pieces_.push_back(std::move(piece));
}

}  // namespace yangtuo
