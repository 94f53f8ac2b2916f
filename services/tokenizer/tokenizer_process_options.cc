#include "services/tokenizer/tokenizer_process_options.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/chat_template.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo-tokenizer --model models/poem-alpaca
  yangtuo-tokenizer --model alpaca=models/alpaca-7b --model llama=models/llama.model \
                    --template alpaca=alpaca-inference --listen 0.0.0.0:50052)";

constexpr char kModelFile[] = "tokenizer.model";

// What a path is called without a name: models/poem-alpaca and models/poem-alpaca/tokenizer.model
// are poem-alpaca, models/llama.model is llama.
std::string DefaultName(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path named = std::filesystem::absolute(path, error).lexically_normal();
  if (named.filename() == kModelFile || !named.has_filename()) {
    named = named.parent_path();
  }
  return named.extension() == ".model" ? named.stem().string() : named.filename().string();
}

absl::StatusOr<TokenizerToLoad> ParseModel(const std::string& text) {
  const std::size_t equals = text.find('=');
  const bool has_name = equals != std::string::npos && text.find('/') > equals;
  TokenizerToLoad model{.name = has_name ? text.substr(0, equals) : "",
                        .path = has_name ? text.substr(equals + 1) : text,
                        .chat_template = ""};
  if (model.path.empty() || (has_name && model.name.empty())) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--model: expected NAME=PATH or PATH, found \"%s\"", text));
  }
  if (!has_name) {
    model.name = DefaultName(model.path);
  }
  std::error_code error;
  const bool folder = std::filesystem::is_directory(model.path, error);
  const std::filesystem::path file = folder ? model.path / kModelFile : model.path;
  if (!std::filesystem::exists(file, error)) {
    return absl::NotFoundError(absl::StrFormat(
        "--model %s: there is no %s; expected a folder with %s, such a file, or a GGUF model", text,
        file.string(), kModelFile));
  }
  return model;
}

absl::Status ApplyTemplate(const std::string& text, std::vector<TokenizerToLoad>& models) {
  const std::size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  const auto found = std::find_if(models.begin(), models.end(),
                                  [&](const TokenizerToLoad& model) { return model.name == name; });
  if (equals == std::string::npos || found == models.end()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--template: expected NAME=TEMPLATE with the name of a --model, found \"%s\"", text));
  }
  found->chat_template = text.substr(equals + 1);
  if (found->chat_template != "none") {
    YANGTUO_RETURN_IF_ERROR(FindChatTemplate(found->chat_template).status());
  }
  return absl::OkStatus();
}

}  // namespace

void AddTokenizerFlags(CLI::App& app, TokenizerProcessOptions& options) {
  app.footer(kExamples);
  app.add_option("--model", options.models,
                 "A tokenizer to serve (repeatable): a model folder, a tokenizer.model file or a "
                 "GGUF model; "
                 "NAME is the model's public name, by default its folder's")
      ->type_name("[NAME=]PATH")
      ->group("Tokenizers");
  std::string names = "none";
  for (const std::string_view name : ChatTemplateNames()) {
    names.append(", ").append(name);
  }
  app.add_option("--template", options.templates,
                 "Chat template of a model (repeatable), in place of the one that its files or "
                 "its vocabulary size choose: " +
                     names)
      ->type_name("NAME=TEMPLATE")
      ->group("Tokenizers");
}

absl::StatusOr<std::vector<TokenizerToLoad>> TokenizersToLoad(
    const TokenizerProcessOptions& options) {
  if (options.models.empty()) {
    return absl::InvalidArgumentError("expected at least one --model NAME=PATH, found none");
  }
  std::vector<TokenizerToLoad> models;
  for (const std::string& text : options.models) {
    YANGTUO_ASSIGN_OR_RETURN(TokenizerToLoad model, ParseModel(text));
    models.push_back(std::move(model));
  }
  for (const std::string& text : options.templates) {
    YANGTUO_RETURN_IF_ERROR(ApplyTemplate(text, models));
  }
  return models;
}

}  // namespace yangtuo
