#include "inference_core/tokenizer/chat_template.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

// Every literal below is an interface: models were trained on, or are prompted with, these bytes.
constexpr std::string_view kAlpacaIntro =
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.";
constexpr std::string_view kAlpaca2System = "You are a helpful assistant. 你是一个乐于助人的助手。";
constexpr std::string_view kAlpaca2LongSystem =
    "You are a helpful assistant. 你是一个乐于助人的助手。"
    "请你提供专业、有逻辑、内容真实、有价值的详细回复。";
constexpr std::size_t kGradioHistoryCharacters = 256;

struct Turn {
  std::string user;
  std::optional<std::string> answer;  // absent in the last turn only
};

struct Conversation {
  std::string system;  // empty: the template's own
  std::vector<Turn> turns;
};

using Segments = std::vector<ChatSegment>;
using Kind = ChatSegment::Kind;

void AppendLine(std::string_view line, std::string& text) { text.append("\n").append(line); }

absl::Status AddMessage(const ChatMessage& message, Conversation& conversation) {
  std::vector<Turn>& turns = conversation.turns;
  if (message.role == "system") {
    conversation.system = message.content.empty() ? conversation.system : message.content;
  } else if (message.role == "user") {
    if (!turns.empty() && !turns.back().answer.has_value()) {
      AppendLine(message.content, turns.back().user);
    } else {
      turns.push_back({.user = message.content, .answer = std::nullopt});
    }
  } else if (message.role == "assistant") {
    if (turns.empty()) {
      return absl::InvalidArgumentError(
          "an assistant message comes first; the conversation must begin with a user message");
    }
    std::optional<std::string>& answer = turns.back().answer;
    if (answer.has_value()) {
      AppendLine(message.content, *answer);
    } else {
      answer = message.content;
    }
  } else {
    return absl::InvalidArgumentError(absl::StrFormat(
        "expected role \"system\", \"user\" or \"assistant\", found \"%s\"", message.role));
  }
  return absl::OkStatus();
}

absl::StatusOr<Conversation> CollectTurns(std::span<const ChatMessage> messages) {
  Conversation conversation;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (const absl::Status added = AddMessage(messages[i], conversation); !added.ok()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("messages[%d]: %s", i, std::string(added.message())));
    }
  }
  if (conversation.turns.empty()) {
    return absl::InvalidArgumentError("the conversation has no user message");
  }
  if (conversation.turns.back().answer.has_value()) {
    return absl::InvalidArgumentError(
        "the last message is from the assistant; it must be from the user");
  }
  return conversation;
}

// The parts between what is substituted, for templates that make one text of everything.
struct AlpacaWording {
  std::string_view after_intro;
  std::string_view before_user;
  std::string_view before_answer;
};

std::string AlpacaIntro(const Conversation& conversation) {
  return conversation.system.empty() ? std::string(kAlpacaIntro) : conversation.system;
}

Segments RenderAlpaca(const Conversation& conversation, const AlpacaWording& wording) {
  std::string text = AlpacaIntro(conversation);
  text.append(wording.after_intro);
  for (const Turn& turn : conversation.turns) {
    text.append(wording.before_user).append(turn.user).append("\n\n").append(wording.before_answer);
    if (turn.answer.has_value()) {
      text.append(*turn.answer).append("\n\n");
    }
  }
  return {{.kind = Kind::kText, .text = std::move(text)}};
}

Segments RenderTraining(const Conversation& conversation) {
  return RenderAlpaca(conversation, {"\n\n", "### Instruction:\n", "### Response: "});
}

Segments RenderInference(const Conversation& conversation) {
  return RenderAlpaca(conversation, {"\n\n", "### Instruction:\n\n", "### Response:\n\n"});
}

Segments RenderCompletions(const Conversation& conversation) {
  // The line of four spaces is an accident of the original source, and part of its prompt.
  return RenderAlpaca(conversation, {"\n    \n", "### Instruction:\n", "### Response: "});
}

// The last `num_characters` characters, cut anywhere, as the original does.
std::string_view LastCharacters(std::string_view text, std::size_t num_characters) {
  std::size_t begin = text.size();
  for (std::size_t seen = 0; begin > 0 && seen < num_characters;) {
    --begin;
    const bool continues = (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80;
    seen += continues ? 0 : 1;
  }
  return text.substr(begin);
}

Segments RenderGradio(const Conversation& conversation) {
  std::string history;
  for (const Turn& turn : conversation.turns) {
    history.append("### Instruction:\n").append(turn.user).append("\n\n### Response: ");
    if (turn.answer.has_value() && !turn.answer->empty()) {
      history.append(*turn.answer).append("\n\n");
    }
  }
  std::string text;
  AppendLine(AlpacaIntro(conversation), text);
  AppendLine(LastCharacters(history, kGradioHistoryCharacters), text);
  AppendLine(" ", text);
  return {{.kind = Kind::kText, .text = std::move(text)}};
}

Segments RenderLlamaCpp(const Conversation& conversation) {
  Segments segments = {{.kind = Kind::kText, .text = AlpacaIntro(conversation)}};
  for (const Turn& turn : conversation.turns) {
    segments.push_back({.kind = Kind::kBos, .text = ""});
    // llama.cpp puts a space in front of the first prompt only.
    segments.push_back({.kind = Kind::kTextWithoutPrefix,
                        .text = "\n\n### Instruction:\n\n" + turn.user + "\n\n### Response:\n\n" +
                                turn.answer.value_or("")});
  }
  return segments;
}

Segments RenderLlama2(const Conversation& conversation, std::string_view default_system,
                      std::string_view after_answer) {
  const std::string system =
      conversation.system.empty() ? std::string(default_system) : conversation.system;
  Segments segments;
  for (const Turn& turn : conversation.turns) {
    if (!segments.empty()) {
      segments.push_back({.kind = Kind::kEos, .text = ""});
      segments.push_back({.kind = Kind::kBos, .text = ""});
    }
    std::string text = "[INST] ";
    if (segments.empty() && !system.empty()) {
      text.append("<<SYS>>\n").append(system).append("\n<</SYS>>\n\n");
    }
    text.append(turn.user).append(" [/INST]");
    if (turn.answer.has_value()) {
      text.append(" ").append(*turn.answer).append(after_answer);
    }
    segments.push_back({.kind = Kind::kText, .text = std::move(text)});
  }
  return segments;
}

Segments RenderAlpaca2(const Conversation& conversation) {
  return RenderLlama2(conversation, kAlpaca2System, "");
}

Segments RenderAlpaca2Long(const Conversation& conversation) {
  return RenderLlama2(conversation, kAlpaca2LongSystem, "");
}

Segments RenderMetaLlama2(const Conversation& conversation) {
  return RenderLlama2(conversation, "", " ");
}

struct TemplateEntry {
  ChatTemplate chat_template;
  Segments (*render)(const Conversation& conversation);
};

constexpr std::string_view kNextInstruction = "### Instruction:";

constexpr std::array<TemplateEntry, 9> kTemplates = {{
    {{"alpaca", kNextInstruction}, RenderTraining},
    {{"alpaca-inference", kNextInstruction}, RenderInference},
    {{"alpaca-completions", kNextInstruction}, RenderCompletions},
    {{"alpaca-chat", kNextInstruction}, RenderTraining},
    {{"alpaca-gradio", kNextInstruction}, RenderGradio},
    {{"alpaca-llamacpp", "### Instruction:\n\n"}, RenderLlamaCpp},
    {{"alpaca-2", ""}, RenderAlpaca2},
    {{"alpaca-2-long", ""}, RenderAlpaca2Long},
    {{"llama-2", ""}, RenderMetaLlama2},
}};

absl::StatusOr<const TemplateEntry*> FindEntry(std::string_view name) {
  const auto found =
      std::find_if(kTemplates.begin(), kTemplates.end(),
                   [name](const TemplateEntry& entry) { return entry.chat_template.name == name; });
  if (found == kTemplates.end()) {
    std::string names;
    for (const TemplateEntry& entry : kTemplates) {
      names.append(names.empty() ? "" : ", ").append(entry.chat_template.name);
    }
    return absl::InvalidArgumentError(
        absl::StrFormat("there is no chat template \"%s\"; there are %s", name, names));
  }
  return &*found;
}

}  // namespace

absl::StatusOr<ChatTemplate> FindChatTemplate(std::string_view name) {
  YANGTUO_ASSIGN_OR_RETURN(const TemplateEntry* entry, FindEntry(name));
  return entry->chat_template;
}

std::vector<std::string_view> ChatTemplateNames() {
  std::vector<std::string_view> names;
  names.reserve(kTemplates.size());
  for (const TemplateEntry& entry : kTemplates) {
    names.push_back(entry.chat_template.name);
  }
  return names;
}

TemplateChoice DefaultChatTemplate(std::string_view metadata, const Vocabulary& vocabulary) {
  if (const absl::StatusOr<ChatTemplate> named = FindChatTemplate(metadata); named.ok()) {
    return {.name = named->name};
  }
  const auto shows = [metadata](std::string_view mark) {
    return metadata.find(mark) != std::string_view::npos;
  };
  const std::string_view family = shows("[INST]") && shows("<<SYS>>") ? "llama-2"
                                  : shows("### Instruction:")         ? "alpaca"
                                                                      : "";
  const bool known = metadata.empty() || !family.empty();
  const std::int32_t vocab = vocabulary.size();
  if (vocab == 49954 || (vocab == 6001 && vocabulary.piece(vocab - 1).literal == "[PAD]")) {
    return {.name = "alpaca", .known = known};
  }
  if (vocab == 55296) {
    return {.name = "alpaca-2", .known = known};
  }
  return {.name = family, .known = known};
}

absl::StatusOr<std::vector<ChatSegment>> RenderChat(const ChatTemplate& chat_template,
                                                    std::span<const ChatMessage> messages) {
  YANGTUO_ASSIGN_OR_RETURN(const TemplateEntry* entry, FindEntry(chat_template.name));
  YANGTUO_ASSIGN_OR_RETURN(const Conversation conversation, CollectTurns(messages));
  Segments segments = {{.kind = Kind::kBos, .text = ""}};
  for (ChatSegment& segment : entry->render(conversation)) {
    segments.push_back(std::move(segment));
  }
  return segments;
}

absl::StatusOr<std::vector<std::int32_t>> EncodeSegments(const Tokenizer& tokenizer,
                                                         std::span<const ChatSegment> segments) {
  std::vector<std::int32_t> ids;
  for (const ChatSegment& segment : segments) {
    if (segment.kind == Kind::kBos || segment.kind == Kind::kEos) {
      ids.push_back(segment.kind == Kind::kBos ? tokenizer.bos_id() : tokenizer.eos_id());
      continue;
    }
    YANGTUO_ASSIGN_OR_RETURN(
        const std::vector<std::int32_t> encoded,
        tokenizer.Encode(segment.text,
                         {.drop_lone_prefix = segment.kind == Kind::kTextWithoutPrefix}));
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  }
  return ids;
}

}  // namespace yangtuo
