#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo {

// What was said in a chat, as far as it is sent along with the next message.
class Conversation {
 public:
  void SetSystem(std::string text) { system_ = std::move(text); }
  // Forgets the turns; the system message stays.
  void Clear() { turns_.clear(); }
  void AddTurn(std::string user, std::string assistant);

  // The turns with `message` behind them, as a request takes them.
  [[nodiscard]] v1::ChatPrompt PromptWith(const std::string& message) const;

  // Drops the oldest turns until the prompt with `message` takes at most `limit_tokens`, as
  // `count_tokens` counts; returns how many. INVALID_ARGUMENT, nothing dropped, when the message
  // alone takes more.
  using TokenCounter = std::function<absl::StatusOr<std::uint32_t>(const v1::ChatPrompt&)>;
  absl::StatusOr<int> DropUntilFits(const std::string& message, std::uint32_t limit_tokens,
                                    const TokenCounter& count_tokens);

  [[nodiscard]] int num_turns() const { return static_cast<int>(turns_.size()); }

 private:
  struct Turn {
    std::string user;
    std::string assistant;
  };
  std::string system_;
  std::deque<Turn> turns_;
};

}  // namespace yangtuo
