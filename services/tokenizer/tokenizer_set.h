#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/tokenizer/tokenizer.h"

namespace yangtuo {

// Where one tokenizer comes from.
struct TokenizerSource {
  std::string name;
  std::string path;           // folder with tokenizer.model, or the file
  std::string chat_template;  // empty: the model's own
};

// "NAME=PATH" or "PATH" (the name is then the folder's). INVALID_ARGUMENT when either is empty.
absl::StatusOr<TokenizerSource> ParseTokenizerSource(std::string_view flag);

// The tokenizers of a process, by name and by digest. Immutable, thread-safe.
class TokenizerSet {
 public:
  // Errors name the model and its file; INVALID_ARGUMENT for a name given twice.
  static absl::StatusOr<TokenizerSet> Load(const std::vector<TokenizerSource>& sources);

  // By name, by digest, or the only one when `key` is empty. NOT_FOUND names those that there are.
  [[nodiscard]] absl::StatusOr<const Tokenizer*> Find(const std::string& key) const;

  [[nodiscard]] const std::map<std::string, std::unique_ptr<const Tokenizer>>& all() const {
    return by_name_;
  }

 private:
  std::map<std::string, std::unique_ptr<const Tokenizer>> by_name_;
  std::map<std::string, const Tokenizer*> by_digest_;
};

}  // namespace yangtuo
