#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "inference_core/tokenizer/sentencepiece_model.pb.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {

inline constexpr std::int32_t kFirstByteId = 3;

// A small BPE model file with LLaMA's settings: <unk> <s> </s>, the 256 bytes, then pieces.
struct ModelBuilder {
  ModelBuilder() {
    Add("<unk>", spm::SentencePiece::UNKNOWN);
    Add("<s>", spm::SentencePiece::CONTROL);
    Add("</s>", spm::SentencePiece::CONTROL);
    for (int byte = 0; byte < 256; ++byte) {
      Add(absl::StrFormat("<0x%02X>", byte), spm::SentencePiece::BYTE);
    }
    for (const char* piece : {"▁a", "▁▁", "ab", "▁", "a", "b", "你", "▁你", "<", ">", "s", "/"}) {
      Add(piece);
    }
    trainer.set_model_type(spm::TrainerSpec::BPE);
    trainer.set_byte_fallback(true);
    normalizer.set_name("identity");
    normalizer.set_add_dummy_prefix(true);
    normalizer.set_remove_extra_whitespaces(false);
  }

  void Add(std::string_view piece, spm::SentencePiece::Type type = spm::SentencePiece::NORMAL) {
    spm::SentencePiece* added = model.add_pieces();
    added->set_piece(std::string(piece));
    added->set_score(-static_cast<float>(model.pieces_size()));
    added->set_type(type);
  }

  [[nodiscard]] std::string Build() {
    model.set_trainer_spec(trainer.SerializeAsString());
    model.set_normalizer_spec(normalizer.SerializeAsString());
    return model.SerializeAsString();
  }

  spm::ModelProto model;
  spm::TrainerSpec trainer;
  spm::NormalizerSpec normalizer;
};

inline absl::StatusOr<Vocabulary> ParseModel(std::string_view model) {
  return Vocabulary::Parse(model, "test.model");
}

}  // namespace yangtuo
