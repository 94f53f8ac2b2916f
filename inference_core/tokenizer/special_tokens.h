#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {

// A piece of text, or the id of a special token whose literal stood there.
struct SpecialSplit {
  std::string_view text;  // empty for a special token
  std::optional<std::int32_t> special;
};

// The ids that text reaches only when the caller asks for it, with their literals: <s>, </s>,
// <unk>, [PAD] and whatever the model's folder names. Immutable, thread-safe.
class SpecialTokens {
 public:
  // Adds to `vocabulary` the tokens that `files` put behind it. DATA_LOSS when they contradict it.
  static absl::StatusOr<SpecialTokens> Create(const HfTokenizerFiles& files,
                                              Vocabulary& vocabulary);

  // Splits `text` at literals: the leftmost one, of several there the longest. Views into `text`.
  [[nodiscard]] std::vector<SpecialSplit> Split(std::string_view text) const;

  [[nodiscard]] std::int32_t bos_id() const { return bos_id_; }
  [[nodiscard]] std::int32_t eos_id() const { return eos_id_; }
  [[nodiscard]] std::optional<std::int32_t> pad_id() const { return pad_id_; }

 private:
  struct Special {
    std::string literal;
    std::int32_t id;
  };

  void AddLiteral(std::string_view literal, const Vocabulary& vocabulary);
  [[nodiscard]] const Special* MatchAt(std::string_view text) const;

  std::vector<Special> specials_;  // longest first
  std::string first_bytes_;        // of all literals
  std::int32_t bos_id_ = 0;
  std::int32_t eos_id_ = 0;
  std::optional<std::int32_t> pad_id_;
};

}  // namespace yangtuo
