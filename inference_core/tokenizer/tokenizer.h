#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/tokenizer/sentencepiece_library.h"
#include "inference_core/tokenizer/special_tokens.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {

struct TokenizerOptions {
  // Template used by default. Empty: chosen by the model's files or vocabulary size; "none":
  // completion only.
  std::string chat_template = {};
  std::filesystem::path shim = {};  // see SentencePieceLibrary::Load
};

struct EncodeOptions {
  bool add_bos = false;
  // Literal special tokens become their ids. As in Hugging Face's "legacy" tokenizers, the text
  // after one is encoded like a text of its own (with a space in front).
  bool parse_special = false;
  // Without the "▁" token that encoding puts in front of a text which does not begin with a word.
  bool drop_lone_prefix = false;
};

struct TemplateChoice;  // chat_template.h

// One model's tokenizer: text to ids and back. Text is bytes; what is not UTF-8 encodes as U+FFFD.
// Immutable, thread-safe.
class Tokenizer {
 public:
  // `path`: a tokenizer.model file or a folder with one; the JSON files beside it are read too.
  // NOT_FOUND, DATA_LOSS or INVALID_ARGUMENT (unknown template), naming the file.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(
      const std::filesystem::path& path, const TokenizerOptions& options = {});

  // A model file's bytes and what would lie beside it; `origin` names them in messages.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> FromModel(
      std::string_view model, const HfTokenizerFiles& files, std::string_view origin,
      const TokenizerOptions& options = {});

  // O(n log n). INVALID_ARGUMENT for a text of 1 GiB and more.
  [[nodiscard]] absl::StatusOr<std::vector<std::int32_t>> Encode(
      std::string_view text, const EncodeOptions& options = {}) const;
  // As sentencepiece does. INVALID_ARGUMENT for an id outside the vocabulary.
  [[nodiscard]] absl::StatusOr<std::string> Decode(std::span<const std::int32_t> ids) const;

  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }
  [[nodiscard]] std::int32_t bos_id() const { return specials_.bos_id(); }
  [[nodiscard]] std::int32_t eos_id() const { return specials_.eos_id(); }
  [[nodiscard]] std::optional<std::int32_t> pad_id() const { return specials_.pad_id(); }
  // Name of the template used by default; empty: completion only.
  [[nodiscard]] const std::string& chat_template() const { return chat_template_; }
  // False when the model's files have a template that is none of ours, so that the one above was
  // chosen without it.
  [[nodiscard]] bool template_known() const { return template_known_; }

 private:
  Tokenizer(Vocabulary vocabulary, SpecialTokens specials, SentencePieceModel model,
            const TemplateChoice& chat_template);

  absl::Status EncodeText(std::string_view text, const EncodeOptions& options,
                          std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  SpecialTokens specials_;
  SentencePieceModel model_;
  std::string chat_template_;
  bool template_known_ = true;
  std::optional<std::int32_t> lone_prefix_id_;  // of the piece "▁"
};

}  // namespace yangtuo
