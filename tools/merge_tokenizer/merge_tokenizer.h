#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/tokenizer/merge_tokenizers.h"

namespace yangtuo {

struct MergeTokenizerOptions {
  std::string base;                    // a .model file, or a folder with tokenizer.model
  std::vector<std::string> additions;  // .model files, or lists of words
  std::string pad_token;               // empty: none
  std::string output;                  // a new folder
  std::string sample;                  // a text file; empty: a built-in text
  bool dry_run = false;
  bool json = false;
};

// How many tokens a text takes before and after.
struct TokenSaving {
  std::string sample;  // what was encoded
  std::int64_t characters = 0;
  std::size_t before = 0;
  std::size_t after = 0;
};

// `yangtuo merge-tokenizer`: returns the exit code.
int RunMergeTokenizer(const MergeTokenizerOptions& options);

// special_tokens_map.json as the published models have it.
[[nodiscard]] std::string SpecialTokensMap(const std::string& pad_token);

}  // namespace yangtuo
