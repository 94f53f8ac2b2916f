#include "inference_core/tokenizer/incremental_decoder.h"

#include <algorithm>

#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/utf8.h"

namespace yangtuo {

absl::Status IncrementalDecoder::SkipContext(std::span<const std::int32_t> ids) {
  std::string discarded;
  for (const std::int32_t id : ids) {
    YANGTUO_RETURN_IF_ERROR(Append(std::span(&id, 1), discarded));
    discarded.clear();
  }
  ids_consumed_ = 0;
  return absl::OkStatus();
}

absl::Status IncrementalDecoder::Append(std::span<const std::int32_t> ids, std::string& text) {
  for (const std::int32_t id : ids) {
    YANGTUO_RETURN_IF_ERROR(vocabulary_->CheckId(id));
    const VocabularyPiece& piece = vocabulary_->piece(id);
    if (piece.type == PieceType::kByte) {
      AppendByte(piece.text.front(), text);
    } else {
      Finish(text);  // a character never spans byte pieces and others
      AppendPiece(piece, text);
    }
    ++ids_consumed_;
  }
  return absl::OkStatus();
}

void IncrementalDecoder::Finish(std::string& text) {
  while (num_held_ > 0) {
    EmitText(kReplacementCharacter, text);
    DropHeld(1);
    // What follows the dropped byte may hold a whole character, but then it was given already:
    // bytes are held only as the beginning of one.
  }
}

void IncrementalDecoder::AppendByte(char byte, std::string& text) {
  held_[num_held_++] = byte;
  while (num_held_ > 0) {
    const Utf8Front front = InspectUtf8(held());
    if (front.may_complete) {
      return;
    }
    if (front.num_bytes > 0) {
      EmitText(held().substr(0, front.num_bytes), text);
      DropHeld(front.num_bytes);
    } else {
      EmitText(kReplacementCharacter, text);
      DropHeld(1);
    }
  }
}

void IncrementalDecoder::AppendPiece(const VocabularyPiece& piece, std::string& text) {
  std::string_view new_text = piece.text;
  if (at_start_ && vocabulary_->drops_leading_space() && piece.type != PieceType::kUnknown &&
      piece.literal.starts_with(kSpaceSymbol)) {
    new_text.remove_prefix(1);
    at_start_ = vocabulary_->drops_extra_spaces();
  }
  EmitText(new_text, text);
}

void IncrementalDecoder::EmitText(std::string_view new_text, std::string& text) {
  text.append(new_text);
  at_start_ = at_start_ && new_text.empty();
}

void IncrementalDecoder::DropHeld(std::size_t num_bytes) {
  std::copy(held_.begin() + static_cast<std::ptrdiff_t>(num_bytes),
            held_.begin() + static_cast<std::ptrdiff_t>(num_held_), held_.begin());
  num_held_ -= num_bytes;
}

}  // namespace yangtuo
