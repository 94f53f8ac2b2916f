#include "tools/chat/chat.h"

#include <memory>
#include <signal.h>
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "tools/chat/chat_session.h"
#include "tools/common/error_text.h"
#include "tools/common/interrupt.h"

namespace yangtuo {
namespace {

int Fail(const std::string& what) {
  WriteAll(STDERR_FILENO, absl::StrFormat("yangtuo chat: %s\n", what));
  return 1;
}

std::string WhyNoChat(const v1::Model& model) {
  return absl::StrFormat(
      "model \"%s\" completes text and has no chat template: use `yangtuo generate --raw "
      "PROMPT`, choose another with --model, or a template with --template",
      model.name());
}

}  // namespace

int RunChat(const ChatOptions& options) {
  InterruptWatch interrupts;
  interrupts.SetHandler([](int signal) { _exit(128 + signal); });
  const absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(options.client);
  if (!client.ok()) {
    return Fail(DescribeError(client.status(), options.client.server));
  }
  const Terminal terminal = Terminal::LookAt(STDOUT_FILENO);
  const bool interactive = terminal.interactive && Terminal::LookAt(STDIN_FILENO).interactive;
  const std::unique_ptr<LineReader> reader = interactive ? NewTerminalReader() : NewPipeReader();
  const absl::StatusOr<v1::Model> model = (*client)->FindModel(options.model);
  if (!model.ok()) {
    return Fail(DescribeError(model.status(), options.client.server));
  }
  if (model->chat_template().empty() && options.chat_template.empty()) {
    return Fail(WhyNoChat(*model));
  }
  ChatSession session(options, *model, **client, interactive ? terminal : Terminal{});
  interrupts.SetHandler([&](int signal) {
    // In a terminal Ctrl-C stops the answer, not the program; while a message is typed it arrives
    // as a key.
    if (signal == SIGINT && interactive) {
      session.Interrupt();
      return;
    }
    reader->Restore();
    _exit(128 + signal);
  });
  const int code = session.Run(*reader);
  interrupts.SetHandler(nullptr);
  return code;
}

}  // namespace yangtuo
