#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace yangtuo {

// What Hugging Face keeps beside tokenizer.model.
struct HfTokenizerFiles {
  std::vector<std::string> special_literals;         // every special token, e.g. "<s>", "[PAD]"
  std::map<std::int32_t, std::string> added_tokens;  // ids that the files give to literals
  std::optional<std::string> bos_token;
  std::optional<std::string> eos_token;
  std::optional<std::string> pad_token;
  std::string chat_template;  // Jinja text, or a template name of ours; may be empty
};

// Reads special_tokens_map.json, tokenizer_config.json, added_tokens.json and chat_template.jinja
// of `folder`, those that exist. DATA_LOSS for files that are not such JSON.
absl::StatusOr<HfTokenizerFiles> ReadHfTokenizerFiles(const std::filesystem::path& folder);

}  // namespace yangtuo
