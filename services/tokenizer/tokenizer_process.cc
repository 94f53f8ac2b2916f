#include "services/tokenizer/tokenizer_process.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "services/common/log.h"

namespace yangtuo {
namespace {

// A tokenizer.model, or what a model in one file says of its own.
absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(const TokenizerToLoad& model) {
  const TokenizerOptions options{.chat_template = model.chat_template};
  std::error_code error;
  if (model.path.extension() == ".model" || std::filesystem::is_directory(model.path, error)) {
    return Tokenizer::Load(model.path, options);
  }
  YANGTUO_ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(model.path));
  if (checkpoint.tokenizer_model.empty()) {
    return absl::NotFoundError(absl::StrFormat(
        "%s has no tokenizer; name the tokenizer.model that it was made with: --model NAME=FILE",
        model.path.string()));
  }
  HfTokenizerFiles files;
  files.chat_template = checkpoint.chat_template;
  return Tokenizer::FromModel(checkpoint.tokenizer_model, files,
                              absl::StrFormat("the tokenizer in %s", model.path.string()), options);
}

absl::StatusOr<TokenizerRegistry> LoadTokenizers(const std::vector<TokenizerToLoad>& models) {
  TokenizerRegistry registry;
  for (const TokenizerToLoad& model : models) {
    YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<const Tokenizer> tokenizer, LoadTokenizer(model));
    Log(LogLevel::kInfo, "tokenizer loaded",
        {{"name", model.name},
         {"digest", tokenizer->vocabulary().digest()},
         {"vocabulary_size", static_cast<std::int64_t>(tokenizer->vocabulary().size())},
         {"chat_template", tokenizer->chat_template()}});
    YANGTUO_RETURN_IF_ERROR(registry.Add(model.name, std::move(tokenizer)));
  }
  return registry;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenizerProcess>> TokenizerProcess::Start(
    const TokenizerProcessOptions& options, Metrics& metrics) {
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<TokenizerToLoad> models, TokenizersToLoad(options));
  YANGTUO_ASSIGN_OR_RETURN(TokenizerRegistry registry, LoadTokenizers(models));
  std::unique_ptr<TokenizerProcess> process(new TokenizerProcess(std::move(registry), metrics));
  YANGTUO_ASSIGN_OR_RETURN(process->server_, RpcServer::Start(options.service, {&process->service_},
                                                              {kTokenizerServiceName}, metrics));
  process->server_->SetServing(kTokenizerServiceName, true);
  return process;
}

void TokenizerProcess::Drain(Duration limit) {
  // First, so that a gateway whose stream ends below looks for another tokenizer.
  server_->SetServing(kTokenizerServiceName, false);
  service_.Drain();
  server_->Drain(limit);
}

}  // namespace yangtuo
