#include "gateway/access/audit_text.h"

#include "absl/strings/str_join.h"

namespace yangtuo::gateway {

std::string PromptText(const v1::GenerateRequest& request) {
  switch (request.prompt_case()) {
    case v1::GenerateRequest::kChat: {
      std::string text;
      for (const v1::ChatMessage& message : request.chat().messages()) {
        text.append(message.role()).append(": ").append(message.content()).append("\n");
      }
      return text;
    }
    case v1::GenerateRequest::kTokenIds:
      return absl::StrJoin(request.token_ids().ids(), " ");
    default:
      return request.text();
  }
}

std::string PromptText(const v1::EmbedRequest& request) {
  return absl::StrJoin(request.texts(), "\n");
}

}  // namespace yangtuo::gateway
