#include "services/tokenizer/tokenizer_process.h"

#include <utility>
#include <vector>

#include "inference_core/base/status_macros.h"
#include "services/common/log.h"

namespace yangtuo {
namespace {

absl::StatusOr<TokenizerRegistry> LoadTokenizers(const std::vector<TokenizerToLoad>& models) {
  TokenizerRegistry registry;
  for (const TokenizerToLoad& model : models) {
    YANGTUO_ASSIGN_OR_RETURN(std::unique_ptr<const Tokenizer> tokenizer,
                             Tokenizer::Load(model.path, {.chat_template = model.chat_template}));
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
