#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {

// Turns ids into text as they come. Everything it gives, put together, is what sentencepiece's
// Decode makes of all ids at once; what it gives at any time is whole UTF-8 characters. The cost of
// a call depends on the new ids only. Used by one thread at a time.
//
// Byte pieces are held back (at most 3 bytes) while more of them can still complete a character; a
// byte that is part of no character becomes U+FFFD.
class IncrementalDecoder {
 public:
  // `vocabulary` outlives the decoder.
  explicit IncrementalDecoder(const Vocabulary& vocabulary) : vocabulary_(&vocabulary) {}

  // Ids that come before the text, which is not given: then the text continues theirs and keeps
  // its leading space. Before the first Append. INVALID_ARGUMENT for an id outside the vocabulary.
  absl::Status SkipContext(std::span<const std::int32_t> ids);

  // Appends to `text` what became complete, often nothing. INVALID_ARGUMENT for an id outside the
  // vocabulary; the ids before it count.
  absl::Status Append(std::span<const std::int32_t> ids, std::string& text);

  // No ids follow: appends what was held back.
  void Finish(std::string& text);

  // Ids given to Append so far.
  [[nodiscard]] std::int64_t ids_consumed() const { return ids_consumed_; }

 private:
  void AppendByte(char byte, std::string& text);
  void AppendPiece(const VocabularyPiece& piece, std::string& text);
  void EmitText(std::string_view new_text, std::string& text);
  [[nodiscard]] std::string_view held() const { return {held_.data(), num_held_}; }
  void DropHeld(std::size_t num_bytes);

  const Vocabulary* vocabulary_;
  std::int64_t ids_consumed_ = 0;
  bool at_start_ = true;  // nothing yet decoded to text or to a dropped space
  std::array<char, 4> held_{};
  std::size_t num_held_ = 0;
};

}  // namespace yangtuo
