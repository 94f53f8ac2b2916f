#include "services/common/program.h"
#include "services/tokenizer/tokenizer_process.h"
#include "services/tokenizer/tokenizer_process_options.h"

int main(int argc, char** argv) {
  yangtuo::TokenizerProcessOptions options;
  options.service.listen = "127.0.0.1:50052";
  options.service.admin_listen = "127.0.0.1:9400";
  return yangtuo::RunService(
      {.name = "yangtuo-tokenizer",
       .description = "Text to token ids and back, and chats to ids, for one or many models.",
       .environment_prefix = "YANGTUO_TOKENIZER",
       .options = options.service,
       .add_flags = [&](CLI::App& app) { yangtuo::AddTokenizerFlags(app, options); },
       .check = [&] { return yangtuo::TokenizersToLoad(options).status(); },
       .start = [&](yangtuo::Metrics& metrics)
           -> absl::StatusOr<std::unique_ptr<yangtuo::RunningService>> {
         return yangtuo::TokenizerProcess::Start(options, metrics);
       }},
      argc, argv);
}
