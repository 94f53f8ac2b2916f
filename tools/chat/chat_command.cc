#include "tools/chat/chat_command.h"

#include <memory>

#include "CLI/CLI.hpp"
#include "tools/chat/chat.h"
#include "tools/common/flags.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo chat
  yangtuo chat --model chinese-alpaca-2-7b --system 你是一位诗人。
  printf '%s\n' 你好 再见 | yangtuo chat       one message a line, answers as plain text

In the chat: /help lists the commands, Ctrl-C stops an answer, Ctrl-D or /exit leaves. When a
conversation outgrows the model's context, its oldest turns are left out, and the chat says so.)";

}  // namespace

void AddChatCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("chat", "talk to a model, turn by turn");
  const auto options = std::make_shared<ChatOptions>();
  const auto timeout = std::make_shared<double>(ToSeconds(options->timeout));
  app.add_option("--model", options->model, "model name (see yangtuo models) [the only one]");
  app.add_option("--system", options->system, "system message: the model's role");
  app.add_option("--template", options->chat_template, "chat template by name [the model's own]");
  app.add_option("--timeout", *timeout, "give an answer up after that many seconds")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 1e6));
  AddSamplingFlags(app, options->sampling);
  AddClientFlags(app, options->client);
  app.footer(kExamples);
  app.callback([&run, options, timeout] {
    options->timeout =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*timeout));
    run = [options] { return RunChat(*options); };
  });
}

}  // namespace yangtuo
