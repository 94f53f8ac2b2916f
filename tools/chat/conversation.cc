#include "tools/chat/conversation.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

void AddMessage(v1::ChatPrompt& prompt, const char* role, const std::string& content) {
  v1::ChatMessage& message = *prompt.add_messages();
  message.set_role(role);
  message.set_content(content);
}

}  // namespace

void Conversation::AddTurn(std::string user, std::string assistant) {
  turns_.push_back({.user = std::move(user), .assistant = std::move(assistant)});
}

v1::ChatPrompt Conversation::PromptWith(const std::string& message) const {
  v1::ChatPrompt prompt;
  if (!system_.empty()) {
    AddMessage(prompt, "system", system_);
  }
  for (const Turn& turn : turns_) {
    AddMessage(prompt, "user", turn.user);
    AddMessage(prompt, "assistant", turn.assistant);
  }
  AddMessage(prompt, "user", message);
  return prompt;
}

absl::StatusOr<int> Conversation::DropUntilFits(const std::string& message,
                                                std::uint32_t limit_tokens,
                                                const TokenCounter& count_tokens) {
  Conversation shorter = *this;
  while (true) {
    YANGTUO_ASSIGN_OR_RETURN(const std::uint32_t tokens, count_tokens(shorter.PromptWith(message)));
    if (tokens <= limit_tokens) {
      break;
    }
    if (shorter.turns_.empty()) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "the message takes %u tokens with its template, and %u fit beside an answer: shorten it, "
          "or lower --max-new-tokens",
          tokens, limit_tokens));
    }
    shorter.turns_.pop_front();
  }
  const int dropped = num_turns() - shorter.num_turns();
  *this = std::move(shorter);
  return dropped;
}

}  // namespace yangtuo
