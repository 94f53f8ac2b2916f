#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "tools/chat/chat.h"
#include "tools/chat/conversation.h"
#include "tools/chat/line_reader.h"
#include "tools/common/terminal.h"

namespace yangtuo {

// The loop of a chat: reads a message or a command, asks, prints the answer. Borrows the client.
class ChatSession {
 public:
  // `terminal` describes standard output; a default one means a pipe: plain text, no prompts.
  ChatSession(const ChatOptions& options, v1::Model model, Client& client, Terminal terminal);

  // Until the input ends; returns the program's exit code: 1 when an answer failed in a pipe, where
  // nobody can try again.
  int Run(LineReader& reader);
  // Stops the answer that is on its way, if there is one. Thread-safe.
  void Interrupt();

 private:
  enum class After { kGoOn, kLeave };
  After Obey(const std::string& line);
  void Answer(const std::string& message);
  // False when the message cannot be sent; says why.
  bool MakeRoom(const std::string& message);
  v1::ChatPrompt WithTemplate(v1::ChatPrompt prompt) const;
  // The answer's share of the context.
  [[nodiscard]] std::uint32_t MaxNewTokens() const;
  void Greet();
  void Say(std::string_view text);     // the answer, on standard output
  void Note(const std::string& text);  // about the chat, on standard error
  void Complain(const absl::Status& status);

  ChatOptions options_;
  v1::Model model_;
  Client& client_;
  Terminal terminal_;
  Conversation conversation_;
  bool failed_ = false;
  std::atomic<bool> interrupted_ = false;  // since the last message
};

}  // namespace yangtuo
