#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "yangtuo/internal/v1/inference.pb.h"
#include "yangtuo/internal/v1/tokenizer.pb.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

// The template a model's chats use by default: the model's own word first, then the tokenizer's.
// Empty for completion-only models.
std::string DefaultTemplate(const internal::v1::WorkerStatus& model,
                            const internal::v1::TokenizerInfo& tokenizer);

// FAILED_PRECONDITION, reason NO_CHAT_TEMPLATE, for a model without a template when the request
// names none; INVALID_ARGUMENT for a name that the tokenizer does not have. Both name those there
// are.
absl::StatusOr<internal::v1::RenderChatRequest> MakeRenderRequest(
    const v1::ChatPrompt& chat, const internal::v1::WorkerStatus& model,
    const internal::v1::TokenizerInfo& tokenizer);

}  // namespace yangtuo::gateway
