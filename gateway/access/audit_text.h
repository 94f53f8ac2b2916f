#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "yangtuo/v1/generation.pb.h"

// What a request asked, as the audit log writes it where prompts are wanted.
namespace yangtuo::gateway {

// A text as it is, a conversation as "role: content" lines, ids as numbers.
std::string PromptText(const v1::GenerateRequest& request);
// The texts, one a line.
std::string PromptText(const v1::EmbedRequest& request);
// Inputs that are ids, one a line.
std::string PromptText(const std::vector<std::vector<std::uint32_t>>& inputs);
std::string PromptText(const v1::TokenizeRequest& request);
std::string PromptText(const v1::DetokenizeRequest& request);

}  // namespace yangtuo::gateway
