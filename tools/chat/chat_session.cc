#include "tools/chat/chat_session.h"

#include <algorithm>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "tools/common/error_text.h"
#include "tools/common/text_width.h"

namespace yangtuo {
namespace {

constexpr char kPrompt[] = "> ";
constexpr char kHelp[] =
    "/clear         forget what was said so far\n"
    "/system TEXT   give the model a role; without TEXT: take it away\n"
    "/help          this list\n"
    "/exit          leave (Ctrl-D does too)\n"
    "Ctrl-C stops an answer; Alt-Enter starts a new line in a message; a message that begins with\n"
    "a slash is written with two.";

std::string Trimmed(const std::string& text) {
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos) {
    return "";
  }
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

}  // namespace

ChatSession::ChatSession(const ChatOptions& options, v1::Model model, Client& client,
                         Terminal terminal)
    : options_(options), model_(std::move(model)), client_(client), terminal_(terminal) {
  conversation_.SetSystem(options_.system);
}

int ChatSession::Run(LineReader& reader) {
  Greet();
  while (true) {
    const ReadLine line = reader.Read(kPrompt);
    if (line.kind == ReadLine::Kind::kEnd) {
      return failed_ && !terminal_.interactive ? 1 : 0;
    }
    if (line.kind == ReadLine::Kind::kInterrupted) {
      Note("(Ctrl-D or /exit leaves)");
      continue;
    }
    const std::string message = Trimmed(line.text);
    if (const auto offset = FindInvalidUtf8(message)) {
      failed_ = true;
      Note(absl::StrFormat("this message is not UTF-8 (byte %d) and was not sent", *offset));
    } else if (message.size() > 1 && message[0] == '/' && message[1] == '/') {
      Answer(message.substr(1));
    } else if (!message.empty() && message[0] == '/') {
      if (Obey(message) == After::kLeave) {
        return failed_ && !terminal_.interactive ? 1 : 0;
      }
    } else if (!message.empty()) {
      Answer(message);
    }
  }
}

void ChatSession::Greet() {
  if (terminal_.interactive) {
    Note(absl::StrFormat("%s at %s, context %d tokens. /help lists the commands.", model_.name(),
                         options_.client.server, model_.context_tokens()));
  }
}

ChatSession::After ChatSession::Obey(const std::string& line) {
  const std::size_t space = line.find_first_of(" \n");
  const std::string command = line.substr(0, space);
  const std::string argument = space == std::string::npos ? "" : Trimmed(line.substr(space));
  if (command == "/exit" || command == "/quit") {
    return After::kLeave;
  }
  if (command == "/clear") {
    conversation_.Clear();
    Note("(what was said so far is forgotten)");
  } else if (command == "/system") {
    conversation_.SetSystem(argument);
    Note(argument.empty() ? "(no system message)" : "(system message set)");
  } else if (command == "/help") {
    Note(kHelp);
  } else {
    Note(absl::StrFormat("there is no command %s; /help lists them", command));
  }
  return After::kGoOn;
}

std::uint32_t ChatSession::MaxNewTokens() const {
  const std::uint32_t wanted = options_.sampling.MaxNewTokens(model_);
  // An answer as long as the context would leave no room for a question: half is the most that is
  // kept free, and an answer may still grow into what the prompt leaves.
  return model_.context_tokens() == 0 ? wanted : std::min(wanted, model_.context_tokens() / 2);
}

v1::ChatPrompt ChatSession::WithTemplate(v1::ChatPrompt prompt) const {
  if (!options_.chat_template.empty()) {
    prompt.set_template_(options_.chat_template);
  }
  return prompt;
}

bool ChatSession::MakeRoom(const std::string& message) {
  if (model_.context_tokens() == 0) {
    return true;
  }
  const auto count = [this](const v1::ChatPrompt& prompt) {
    v1::TokenizeRequest request;
    request.set_model(model_.name());
    *request.mutable_chat() = WithTemplate(prompt);
    return client_.CountTokens(request);
  };
  const absl::StatusOr<int> dropped =
      conversation_.DropUntilFits(message, model_.context_tokens() - MaxNewTokens(), count);
  if (!dropped.ok()) {
    Complain(dropped.status());
    return false;
  }
  if (*dropped > 0) {
    Note(absl::StrFormat("(%d earlier turn%s no longer fit%s)", *dropped, *dropped == 1 ? "" : "s",
                         *dropped == 1 ? "s" : ""));
  }
  return true;
}

void ChatSession::Interrupt() {
  interrupted_ = true;
  client_.Cancel();
}

void ChatSession::Answer(const std::string& message) {
  interrupted_ = false;
  if (!MakeRoom(message)) {
    return;
  }
  v1::GenerateRequest request;
  request.set_model(model_.name());
  *request.mutable_chat() = WithTemplate(conversation_.PromptWith(message));
  options_.sampling.ApplyTo(request, model_);
  std::string answer;
  v1::Finished finished;
  const absl::Status status =
      client_.Generate(request, options_.timeout, [&](const v1::GenerateResponse& response) {
        if (interrupted_) {
          client_.Cancel();  // it came before there was a call
        } else if (response.has_delta()) {
          answer += response.delta().text();
          Say(response.delta().text());
        } else if (response.has_finished()) {
          finished = response.finished();
        }
      });
  if (!answer.empty() && answer.back() != '\n') {
    Say("\n");
  }
  if (absl::IsCancelled(status)) {
    Note("(stopped)");
  } else if (!status.ok()) {
    Complain(status);
  } else if (finished.choices_size() > 0 &&
             finished.choices(0).finish_reason() == v1::FINISH_REASON_LENGTH) {
    Note("(cut at the length limit)");
  } else if (answer.empty()) {
    Note("(the model had nothing to say)");
  }
  // A stopped answer was read too; a failed one is better asked again.
  if (!answer.empty() && (status.ok() || absl::IsCancelled(status))) {
    conversation_.AddTurn(message, answer);
  }
}

void ChatSession::Say(std::string_view text) { WriteAll(STDOUT_FILENO, text); }

void ChatSession::Note(const std::string& text) {
  WriteAll(STDERR_FILENO, terminal_.Dim(text) + "\n");
}

void ChatSession::Complain(const absl::Status& status) {
  failed_ = true;
  WriteAll(STDERR_FILENO,
           terminal_.Bad("yangtuo chat: " + DescribeError(status, options_.client.server)) + "\n");
}

}  // namespace yangtuo
