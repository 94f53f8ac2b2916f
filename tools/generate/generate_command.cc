#include "tools/generate/generate_command.h"

#include <memory>

#include "CLI/CLI.hpp"
#include "tools/common/flags.h"
#include "tools/generate/generate.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo generate 写一首题为《春望》的五言律诗。
  yangtuo generate --raw --temperature 0 --max-new-tokens 64 床前明月光，
  yangtuo generate --server 10.0.0.7:50051 --stats --seed 7 "Name three rivers."
  yangtuo generate - <question.txt
  yangtuo generate --json --logprobs 3 你好 | jq .

The answer goes to standard output as it comes, everything else to standard error. Ctrl-C stops the
answer. Exit codes: 0 answered, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C.)";

}  // namespace

void AddGenerateCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("generate", "send one prompt, stream the answer");
  const auto options = std::make_shared<GenerateOptions>();
  const auto timeout = std::make_shared<double>(ToSeconds(options->timeout));
  app.add_option("PROMPT", options->prompt, "what to ask; - reads it from standard input");
  app.add_option("--model", options->model, "model name (see yangtuo models) [the only one]");
  CLI::Option* raw = app.add_flag_callback(
      "--raw", [options] { options->kind = PromptKind::kRaw; }, "complete the prompt as it is");
  app.add_flag_callback(
         "--chat", [options] { options->kind = PromptKind::kChat; },
         "put the prompt into the model's chat template [if the model has one]")
      ->excludes(raw);
  app.add_option("--system", options->system, "system message of a chat");
  app.add_option("--template", options->chat_template, "chat template by name [the model's own]");
  app.add_option("--n", options->n, "number of answers")->check(CLI::Range(1, 16));
  app.add_option("--logprobs", options->logprobs,
                 "print log-probabilities, with that many candidates a token")
      ->check(CLI::Range(0, 20));
  app.add_flag("--echo", options->echo, "the answer starts with the prompt (raw prompts)");
  app.add_flag("--stats", options->stats, "tokens, time to first token and speed at the end");
  app.add_flag("--json", options->json, "one line of JSON an event instead of text");
  app.add_option("--timeout", *timeout, "give up after that many seconds")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 1e6));
  AddSamplingFlags(app, options->sampling);
  AddClientFlags(app, options->client);
  app.footer(kExamples);
  app.callback([&run, options, timeout] {
    options->timeout =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*timeout));
    run = [options] { return RunGenerate(*options); };
  });
}

}  // namespace yangtuo
