#include "inference_core/tokenizer/model_pieces.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/sentencepiece_model.pb.h"

namespace yangtuo {
namespace {

constexpr std::size_t kMaxModelBytes = std::size_t{256} << 20;
constexpr std::ptrdiff_t kBytePieces = 256;

absl::StatusOr<spm::ModelProto> ParseModel(std::string_view model, std::string_view origin) {
  spm::ModelProto proto;
  if (model.empty() || model.size() > kMaxModelBytes ||
      !proto.ParseFromArray(model.data(), static_cast<int>(model.size())) ||
      proto.pieces().empty()) {
    return absl::DataLossError(absl::StrFormat(
        "%s: expected a sentencepiece model, found %d bytes that are none", origin, model.size()));
  }
  return proto;
}

// Protobuf writes fields in the order of their numbers, which is sentencepiece's own.
std::string Serialized(const spm::ModelProto& proto) { return proto.SerializeAsString(); }

absl::Status CheckId(std::int32_t id, std::size_t pieces, const char* what,
                     std::string_view origin) {
  if (id >= 0 && static_cast<std::size_t>(id) < pieces) {
    return absl::OkStatus();
  }
  return absl::DataLossError(absl::StrFormat("%s: the %s token is %d, outside the vocabulary of %d",
                                             origin, what, id, pieces));
}

}  // namespace

std::int32_t PieceTypeNumber(PieceType type) {
  switch (type) {
    case PieceType::kNormal:
      return spm::SentencePiece::NORMAL;
    case PieceType::kUnknown:
      return spm::SentencePiece::UNKNOWN;
    case PieceType::kControl:
      return spm::SentencePiece::CONTROL;
    case PieceType::kUserDefined:
    case PieceType::kAdded:
      return spm::SentencePiece::USER_DEFINED;
    case PieceType::kUnused:
      return spm::SentencePiece::UNUSED;
    case PieceType::kByte:
      return spm::SentencePiece::BYTE;
  }
  return spm::SentencePiece::NORMAL;
}

std::optional<PieceType> PieceTypeOf(std::int32_t number) {
  switch (number) {
    case spm::SentencePiece::NORMAL:
      return PieceType::kNormal;
    case spm::SentencePiece::UNKNOWN:
      return PieceType::kUnknown;
    case spm::SentencePiece::CONTROL:
      return PieceType::kControl;
    case spm::SentencePiece::USER_DEFINED:
      return PieceType::kUserDefined;
    case spm::SentencePiece::UNUSED:
      return PieceType::kUnused;
    case spm::SentencePiece::BYTE:
      return PieceType::kByte;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<ModelPieces> ReadModelPieces(std::string_view model, std::string_view origin) {
  YANGTUO_ASSIGN_OR_RETURN(const spm::ModelProto proto, ParseModel(model, origin));
  spm::TrainerSpec trainer;
  if (!trainer.ParseFromString(proto.trainer_spec())) {
    return absl::DataLossError(absl::StrFormat("%s: its trainer settings are damaged", origin));
  }
  ModelPieces found;
  if (trainer.model_type() == spm::TrainerSpec::BPE) {
    found.algorithm = PieceAlgorithm::kBpe;
  } else if (trainer.model_type() != spm::TrainerSpec::UNIGRAM) {
    found.algorithm = PieceAlgorithm::kOther;
  }
  for (const spm::SentencePiece& piece : proto.pieces()) {
    found.pieces.push_back({.literal = piece.piece(),
                            .score = piece.score(),
                            .type = PieceTypeOf(piece.type()).value_or(PieceType::kNormal)});
  }
  return found;
}

absl::StatusOr<std::string> AppendPieces(std::string_view model,
                                         std::span<const std::string> literals,
                                         std::string_view origin) {
  YANGTUO_ASSIGN_OR_RETURN(spm::ModelProto proto, ParseModel(model, origin));
  for (const std::string& literal : literals) {
    spm::SentencePiece& piece = *proto.add_pieces();
    piece.set_piece(literal);
    piece.set_score(0);
  }
  return Serialized(proto);
}

absl::StatusOr<std::string> MakeBpeModel(std::span<const ModelPiece> pieces,
                                         const BpeSettings& settings, std::string_view origin) {
  YANGTUO_RETURN_IF_ERROR(CheckId(settings.unk_id, pieces.size(), "unknown", origin));
  YANGTUO_RETURN_IF_ERROR(CheckId(settings.bos_id, pieces.size(), "begin-of-text", origin));
  YANGTUO_RETURN_IF_ERROR(CheckId(settings.eos_id, pieces.size(), "end-of-text", origin));
  if (settings.pad_id.has_value()) {
    YANGTUO_RETURN_IF_ERROR(CheckId(*settings.pad_id, pieces.size(), "padding", origin));
  }
  const auto bytes = std::count_if(pieces.begin(), pieces.end(), [](const ModelPiece& piece) {
    return piece.type == PieceType::kByte;
  });
  if (bytes != 0 && bytes != kBytePieces) {
    return absl::DataLossError(absl::StrFormat(
        "%s: its tokenizer has %d byte tokens, expected all 256 or none", origin, bytes));
  }
  const auto literal = [&pieces](std::int32_t id) {
    return pieces[static_cast<std::size_t>(id)].literal;
  };
  spm::TrainerSpec trainer;
  trainer.set_model_type(spm::TrainerSpec::BPE);
  trainer.set_vocab_size(static_cast<std::int32_t>(pieces.size()));
  trainer.set_byte_fallback(bytes != 0);
  trainer.set_unk_id(settings.unk_id);
  trainer.set_bos_id(settings.bos_id);
  trainer.set_eos_id(settings.eos_id);
  trainer.set_unk_piece(literal(settings.unk_id));
  trainer.set_bos_piece(literal(settings.bos_id));
  trainer.set_eos_piece(literal(settings.eos_id));
  if (settings.pad_id.has_value()) {
    trainer.set_pad_id(*settings.pad_id);
    trainer.set_pad_piece(literal(*settings.pad_id));
  }
  spm::NormalizerSpec normalizer;
  normalizer.set_name("identity");
  normalizer.set_precompiled_charsmap("");
  normalizer.set_add_dummy_prefix(settings.add_dummy_prefix);
  normalizer.set_remove_extra_whitespaces(settings.remove_extra_whitespaces);
  normalizer.set_escape_whitespaces(true);

  spm::ModelProto proto;
  for (const ModelPiece& piece : pieces) {
    spm::SentencePiece& written = *proto.add_pieces();
    written.set_piece(piece.literal);
    written.set_score(piece.score);
    written.set_type(static_cast<spm::SentencePiece::Type>(PieceTypeNumber(piece.type)));
  }
  proto.mutable_pieces(settings.unk_id)->set_type(spm::SentencePiece::UNKNOWN);
  for (const std::int32_t id : {settings.bos_id, settings.eos_id}) {
    proto.mutable_pieces(id)->set_type(spm::SentencePiece::CONTROL);
  }
  proto.set_trainer_spec(trainer.SerializeAsString());
  proto.set_normalizer_spec(normalizer.SerializeAsString());
  return Serialized(proto);
}

}  // namespace yangtuo
