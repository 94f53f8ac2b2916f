#include "services/tokenizer/tokenizer_process.h"

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/gguf_tokenizer.h"
#include "inference_core/formats/gguf.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"
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
  HfTokenizerFiles files;
  std::string bytes;
  if (model.path.extension() == ".gguf") {
    // Also of a file that has a vocabulary and no tensors.
    YANGTUO_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(model.path));
    YANGTUO_ASSIGN_OR_RETURN(bytes, TokenizerOfGguf(file));
    YANGTUO_ASSIGN_OR_RETURN(files.chat_template,
                             file.metadata().Text("tokenizer.chat_template", ""));
  } else {
    YANGTUO_ASSIGN_OR_RETURN(Checkpoint checkpoint, OpenCheckpoint(model.path));
    bytes = std::move(checkpoint.tokenizer_model);
    files.chat_template = std::move(checkpoint.chat_template);
  }
  if (bytes.empty()) {
    return absl::NotFoundError(absl::StrFormat(
        "%s has no tokenizer; name the tokenizer.model that it was made with: --model NAME=FILE",
        model.path.string()));
  }
  return Tokenizer::FromModel(bytes, files,
                              absl::StrFormat("the tokenizer in %s", model.path.string()), options);
}

void LogUnknownTemplate(const std::string& name, const Tokenizer& tokenizer) {
  const std::string& used = tokenizer.chat_template();
  Log(LogLevel::kWarning, "the model's chat template is not known here",
      {{"name", name},
       {"used_instead", used.empty() ? std::string("none: completion only") : used},
       {"to_choose", absl::StrFormat("--template %s=TEMPLATE", name)}});
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
    if (!tokenizer->template_known()) {
      LogUnknownTemplate(model.name, *tokenizer);
    }
    YANGTUO_RETURN_IF_ERROR(registry.Add(model.name, std::move(tokenizer)));
  }
  return registry;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenizerProcess>> TokenizerProcess::Start(
    const TokenizerProcessOptions& options, Metrics& metrics) {
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<TokenizerToLoad> models, TokenizersToLoad(options));
  YANGTUO_ASSIGN_OR_RETURN(TokenizerRegistry registry, LoadTokenizers(models));
  YANGTUO_ASSIGN_OR_RETURN(auto tracer,
                           Tracer::Start(options.service.tracing, "yangtuo-tokenizer", metrics));
  std::unique_ptr<TokenizerProcess> process(
      new TokenizerProcess(std::move(registry), std::move(tracer), metrics));
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
