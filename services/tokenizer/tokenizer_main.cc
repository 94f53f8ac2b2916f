#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/chat_template.h"
#include "services/common/log.h"
#include "services/common/program.h"
#include "services/common/rpc_server.h"
#include "services/tokenizer/tokenizer_service.h"

namespace yangtuo {
namespace {

constexpr char kHealthName[] = "yangtuo.internal.v1.TokenizerService";
constexpr char kExamples[] = R"(Examples:
  yangtuo-tokenizer --model models/chinese-alpaca-2-7b
  yangtuo-tokenizer --model alpaca=models/a --model llama=models/b/tokenizer.model \
                    --template alpaca=alpaca-2-long
  yangtuo-tokenizer --model m=models/m --listen 0.0.0.0:50052 --log-format json)";

struct TokenizerProgramOptions {
  ServiceOptions service;
  std::vector<std::string> models;     // NAME=PATH or PATH
  std::vector<std::string> templates;  // NAME=TEMPLATE
};

absl::StatusOr<std::vector<TokenizerSource>> SourcesOf(const TokenizerProgramOptions& options) {
  std::vector<TokenizerSource> sources;
  for (const std::string& model : options.models) {
    YANGTUO_ASSIGN_OR_RETURN(TokenizerSource source, ParseTokenizerSource(model));
    sources.push_back(std::move(source));
  }
  for (const std::string& flag : options.templates) {
    const std::size_t equals = flag.find('=');
    const std::string name = flag.substr(0, equals);
    TokenizerSource* named = nullptr;
    for (TokenizerSource& source : sources) {
      named = source.name == name ? &source : named;
    }
    if (equals == std::string::npos || named == nullptr) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--template \"%s\": expected NAME=TEMPLATE with the name of a --model", flag));
    }
    named->chat_template = flag.substr(equals + 1);
  }
  return sources;
}

// Loads everything: what is missing or damaged is said before a port is opened.
absl::Status CheckOptions(const TokenizerProgramOptions& options) {
  if (options.models.empty()) {
    return absl::InvalidArgumentError(
        "--model is missing: give a folder with tokenizer.model, as NAME=PATH or PATH");
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::vector<TokenizerSource> sources, SourcesOf(options));
  return TokenizerSet::Load(sources).status();
}

void AddFlags(CLI::App& app, TokenizerProgramOptions& options) {
  app.add_option("--model", options.models,
                 "A model's tokenizer, NAME=PATH or PATH: a folder with tokenizer.model, or the "
                 "file; may be repeated")
      ->group("Models");
  app.add_option("--template", options.templates,
                 "NAME=TEMPLATE: default chat template of a model instead of its own (\"none\": "
                 "completion only); may be repeated")
      ->group("Models");
  app.footer(kExamples);
}

class RunningTokenizer final : public RunningService {
 public:
  static absl::StatusOr<std::unique_ptr<RunningService>> Start(
      const TokenizerProgramOptions& options, Metrics& metrics) {
    YANGTUO_ASSIGN_OR_RETURN(const std::vector<TokenizerSource> sources, SourcesOf(options));
    YANGTUO_ASSIGN_OR_RETURN(TokenizerSet tokenizers, TokenizerSet::Load(sources));
    for (const auto& [name, tokenizer] : tokenizers.all()) {
      Log(LogLevel::kInfo, "tokenizer loaded",
          {{"model", name},
           {"vocabulary", std::int64_t{tokenizer->vocabulary().size()}},
           {"chat_template", tokenizer->chat_template()},
           {"digest", tokenizer->vocabulary().digest()}});
    }
    auto running = std::make_unique<RunningTokenizer>(std::move(tokenizers), metrics);
    YANGTUO_ASSIGN_OR_RETURN(
        running->server_,
        RpcServer::Start(options.service, {&running->service_}, {kHealthName}, metrics));
    running->server_->SetServing(kHealthName, true);
    return running;
  }

  RunningTokenizer(TokenizerSet tokenizers, Metrics& metrics)
      : tokenizers_(std::move(tokenizers)), metrics_(metrics), service_(tokenizers_, metrics_) {}

  void Drain(Duration limit) override { server_->Drain(limit); }

 private:
  const TokenizerSet tokenizers_;
  TokenizerMetrics metrics_;
  TokenizerService service_;
  std::unique_ptr<RpcServer> server_;
};

}  // namespace
}  // namespace yangtuo

int main(int argc, char** argv) {
  yangtuo::TokenizerProgramOptions options;
  options.service.listen = "127.0.0.1:50052";
  options.service.admin_listen = "127.0.0.1:9400";
  return yangtuo::RunService({.name = "yangtuo-tokenizer",
                              .description = "Text to token ids and back, for one or many models.",
                              .environment_prefix = "YANGTUO_TOKENIZER",
                              .options = options.service,
                              .add_flags = [&](CLI::App& app) { yangtuo::AddFlags(app, options); },
                              .check = [&] { return yangtuo::CheckOptions(options); },
                              .start =
                                  [&](yangtuo::Metrics& metrics) {
                                    return yangtuo::RunningTokenizer::Start(options, metrics);
                                  }},
                             argc, argv);
}
