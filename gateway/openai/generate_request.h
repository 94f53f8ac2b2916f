#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/openai/json_body.h"
#include "yangtuo/v1/generation.pb.h"

// Bodies of /v1/chat/completions and /v1/completions to what the gateway answers. Unknown members
// are ignored; known ones that cannot be honoured are refused.
namespace yangtuo::gateway::openai {

enum class Api { kChat, kCompletions };

struct GenerateCall {
  Api api = Api::kChat;
  // One for each prompt (several for /v1/completions only), equal in all else.
  std::vector<v1::GenerateRequest> requests;
  std::uint32_t choices = 1;  // shown of each prompt; requests ask for best_of of them
  bool logprobs = false;      // shown; best_of makes requests ask for them, too
  bool stream = false;
  bool include_usage = false;
};

// INVALID_ARGUMENT names the member.
absl::StatusOr<GenerateCall> ParseGenerateCall(Api api, const Json& body);

// The conversation of `messages`: roles system (developer), user, assistant; content under
// "content" or "message", as a string or as text parts.
absl::StatusOr<v1::ChatPrompt> ParseMessages(const Json& messages);

}  // namespace yangtuo::gateway::openai
