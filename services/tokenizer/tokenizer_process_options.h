#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "services/common/service_options.h"

namespace yangtuo {

// What the program's flags say.
struct TokenizerProcessOptions {
  ServiceOptions service = {};
  std::vector<std::string> models = {};     // "NAME=PATH" or "PATH"
  std::vector<std::string> templates = {};  // "NAME=TEMPLATE"
};

// One tokenizer to load.
struct TokenizerToLoad {
  std::string name;
  std::filesystem::path path;  // a folder with tokenizer.model, the file, or a model file
  std::string chat_template;   // empty: the model's own
};

void AddTokenizerFlags(CLI::App& app, TokenizerProcessOptions& options);

// INVALID_ARGUMENT naming the flag; NOT_FOUND naming the path.
absl::StatusOr<std::vector<TokenizerToLoad>> TokenizersToLoad(
    const TokenizerProcessOptions& options);

}  // namespace yangtuo
