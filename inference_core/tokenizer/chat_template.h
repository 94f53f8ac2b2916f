#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {

struct ChatMessage {
  std::string role;  // "system", "user" or "assistant"
  std::string content;
};

// How a kind of model expects a conversation. Names, and what they reproduce:
//   alpaca              Chinese-Alpaca's training form, and its OpenAI server's for several turns
//   alpaca-inference    inference_hf.py --with_prompt
//   alpaca-completions  its OpenAI server's /v1/completions
//   alpaca-chat         its OpenAI server's /v1/chat/completions (the same bytes as "alpaca")
//   alpaca-gradio       its web demo: history cut to its last 256 characters
//   alpaca-llamacpp     llama.cpp -ins: BOS before every instruction
//   alpaca-2            Chinese-Alpaca-2 with its system prompt
//   alpaca-2-long       the same with the system prompt for longer answers
//   llama-2             Llama-2-Chat: no system prompt unless there is a system message
// Where the original has one turn only, further turns repeat its form.
struct ChatTemplate {
  std::string_view name;
  std::string_view stop_string;  // ends an answer; empty: only EOS does
};

// INVALID_ARGUMENT that lists the names there are.
absl::StatusOr<ChatTemplate> FindChatTemplate(std::string_view name);

[[nodiscard]] std::vector<std::string_view> ChatTemplateNames();

// The template of a model: the one that its metadata names; else by vocabulary, which tells more
// than a Jinja text (49,954 and 6,001 with [PAD] are alpaca, 55,296 is alpaca-2); else the family
// that the Jinja text in `metadata` shows.
struct TemplateChoice {
  std::string_view name;  // empty: completion only
  // Whether the metadata is empty or was understood. If not, the model's makers wanted something
  // else than `name`, and its users should be told.
  bool known = true;
};
[[nodiscard]] TemplateChoice DefaultChatTemplate(std::string_view metadata,
                                                 const Vocabulary& vocabulary);

// A rendered conversation: text that is encoded on its own, or a special token. Never are special
// tokens parsed out of text, so no message can forge one.
struct ChatSegment {
  enum class Kind { kText, kTextWithoutPrefix, kBos, kEos };
  Kind kind = Kind::kText;
  std::string text;
};

// `messages`: system messages anywhere (the last one that is not empty wins, in place of the
// template's own prompt), then user and assistant in turn, the last from the user; neighbours with
// the same role are joined by a newline. INVALID_ARGUMENT says which message is wrong.
absl::StatusOr<std::vector<ChatSegment>> RenderChat(const ChatTemplate& chat_template,
                                                    std::span<const ChatMessage> messages);

absl::StatusOr<std::vector<std::int32_t>> EncodeSegments(const Tokenizer& tokenizer,
                                                         std::span<const ChatSegment> segments);

}  // namespace yangtuo
