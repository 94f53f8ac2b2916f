#include "tools/generate/generate.h"

#include <atomic>
#include <iostream>
#include <iterator>
#include <memory>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "services/common/status.h"
#include "tools/common/error_text.h"
#include "tools/common/interrupt.h"
#include "tools/common/terminal.h"
#include "tools/common/text_width.h"
#include "tools/generate/answer_printer.h"

namespace yangtuo {
namespace {

constexpr int kExitUsage = 2;

// INVALID_ARGUMENT: the user has to call it differently.
absl::StatusOr<std::string> ReadPrompt(const std::optional<std::string>& argument) {
  std::string prompt = argument.value_or("-");
  if (prompt == "-") {
    if (!argument && Terminal::LookAt(STDIN_FILENO).interactive) {
      return absl::InvalidArgumentError(
          "a prompt is missing: yangtuo generate \"写一首五言律诗。\", or - to type it on standard "
          "input");
    }
    prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
    // The newline that a shell's echo or an editor leaves at the end is no part of the prompt.
    if (!prompt.empty() && prompt.back() == '\n') {
      prompt.pop_back();
    }
  }
  if (const auto offset = FindInvalidUtf8(prompt)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the prompt is not UTF-8 (byte %d is 0x%02x): convert it first, for example with iconv -f "
        "GB18030 -t UTF-8",
        *offset, static_cast<unsigned char>(prompt[*offset])));
  }
  return prompt;
}

void PrintError(const GenerateOptions& options, const absl::Status& status) {
  if (options.json) {
    const nlohmann::json line = {{"error",
                                  {{"code", CodeName(status)},
                                   {"reason", ReasonOf(status)},
                                   {"message", std::string(status.message())}}}};
    WriteAll(STDOUT_FILENO,
             line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  WriteAll(STDERR_FILENO,
           absl::StrFormat("yangtuo generate: %s\n", DescribeError(status, options.client.server)));
}

absl::Status Stream(const GenerateOptions& options, Client& client,
                    const v1::GenerateRequest& request) {
  const TimePoint begin = std::chrono::steady_clock::now();
  AnswerPrinter printer([](std::string_view text) { WriteAll(STDOUT_FILENO, text); });
  AnswerPrinter silent([](std::string_view) {});
  AnswerPrinter& answer = options.json ? silent : printer;
  absl::Status status =
      client.Generate(request, options.timeout, [&](const v1::GenerateResponse& response) {
        answer.OnEvent(response);
        if (options.json) {
          WriteAll(STDOUT_FILENO, ToJsonLine(response));
        }
      });
  answer.Finish();
  if (status.ok() && options.stats) {
    const Duration wall = std::chrono::steady_clock::now() - begin;
    WriteAll(STDERR_FILENO, Terminal::LookAt(STDERR_FILENO)
                                    .Dim(DescribeStats(answer.started(), answer.finished(), wall)) +
                                "\n");
  }
  return status;
}

int Fail(const GenerateOptions& options, const absl::Status& status) {
  PrintError(options, status);
  return 1;
}

int FailUsage(const absl::Status& status) {
  WriteAll(STDERR_FILENO, absl::StrFormat("yangtuo generate: %s\n", std::string(status.message())));
  return kExitUsage;
}

}  // namespace

absl::StatusOr<v1::GenerateRequest> MakeGenerateRequest(const GenerateOptions& options,
                                                        const std::string& prompt,
                                                        const v1::Model& model) {
  const bool has_template = !model.chat_template().empty() || !options.chat_template.empty();
  const bool chat =
      options.kind == PromptKind::kChat || (options.kind == PromptKind::kAutomatic && has_template);
  if (chat && !has_template) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "model \"%s\" completes text and has no chat template: leave --chat out, or choose one "
        "with --template",
        model.name()));
  }
  if (!chat && !(options.system.empty() && options.chat_template.empty())) {
    return absl::InvalidArgumentError(
        "--system and --template belong to a chat: this prompt is raw text");
  }
  if (chat && options.echo) {
    return absl::InvalidArgumentError("--echo repeats a raw prompt: add --raw");
  }
  v1::GenerateRequest request;
  request.set_model(model.name());
  if (chat) {
    v1::ChatPrompt& conversation = *request.mutable_chat();
    if (!options.system.empty()) {
      v1::ChatMessage& system = *conversation.add_messages();
      system.set_role("system");
      system.set_content(options.system);
    }
    v1::ChatMessage& user = *conversation.add_messages();
    user.set_role("user");
    user.set_content(prompt);
    if (!options.chat_template.empty()) {
      conversation.set_template_(options.chat_template);
    }
  } else {
    request.set_text(prompt);
  }
  options.sampling.ApplyTo(request, model);
  if (options.constraint.kind_case() != v1::Constraint::KIND_NOT_SET) {
    *request.mutable_sampling()->mutable_constraint() = options.constraint;
  }
  if (options.logprobs) {
    request.mutable_sampling()->set_logprobs(*options.logprobs);
  }
  if (options.n) {
    request.set_n(*options.n);
  }
  if (options.echo) {
    request.set_echo(true);
  }
  return request;
}

int RunGenerate(const GenerateOptions& options) {
  const absl::StatusOr<std::string> prompt = ReadPrompt(options.prompt);
  if (!prompt.ok()) {
    return FailUsage(prompt.status());
  }
  InterruptWatch interrupts;
  const absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(options.client);
  if (!client.ok()) {
    return Fail(options, client.status());
  }
  std::atomic<int> interrupted_by{0};
  interrupts.SetHandler([&](int signal) {
    // A second signal, or one while nothing streams yet, has nothing to wait for.
    if (interrupted_by.exchange(signal) != 0 || !(*client)->Cancel()) {
      _exit(128 + signal);
    }
  });
  const absl::StatusOr<v1::Model> model = (*client)->FindModel(options.model);
  if (!model.ok()) {
    return Fail(options, model.status());
  }
  const auto request = MakeGenerateRequest(options, *prompt, *model);
  if (!request.ok()) {
    return FailUsage(request.status());
  }
  const absl::Status status = Stream(options, **client, *request);
  interrupts.SetHandler(nullptr);
  if (const int signal = interrupted_by.load(); signal != 0) {
    return 128 + signal;
  }
  return status.ok() ? 0 : Fail(options, status);
}

}  // namespace yangtuo
