#include "gateway/access/audit_text.h"

#include "absl/strings/str_join.h"

namespace yangtuo::gateway {

namespace {

std::string TextOf(const v1::ChatPrompt& chat) {
  std::string text;
  for (const v1::ChatMessage& message : chat.messages()) {
    text.append(message.role()).append(": ").append(message.content()).append("\n");
  }
  return text;
}

}  // namespace

std::string PromptText(const v1::GenerateRequest& request) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kChat:
      return TextOf(request.chat());
    case v1::GenerateRequest::kTokenIds:
      return absl::StrJoin(request.token_ids().ids(), " ");
    default:
      return request.text();
  }
}

std::string PromptText(const v1::EmbedRequest& request) {
  return absl::StrJoin(request.texts(), "\n");
}

std::string PromptText(const std::vector<std::vector<std::uint32_t>>& inputs) {
  return absl::StrJoin(inputs, "\n", [](std::string* out, const std::vector<std::uint32_t>& ids) {
    out->append(absl::StrJoin(ids, " "));
  });
}

std::string PromptText(const v1::TokenizeRequest& request) {
  return request.has_chat() ? TextOf(request.chat()) : request.text();
}

std::string PromptText(const v1::DetokenizeRequest& request) {
  return absl::StrJoin(request.token_ids(), " ");
}

}  // namespace yangtuo::gateway
