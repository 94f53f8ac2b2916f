#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "inference_core/grammar/grammar_cache.h"
#include "yangtuo/v1/generation.pb.h"

// What a request may say, as pure functions. All violations of a request are reported together:
// INVALID_ARGUMENT with a google.rpc.BadRequest that names every field by its path.
namespace yangtuo::gateway {

struct RequestLimits {
  std::uint32_t max_choices = 16;
  // Clients of the HTTP API send up to 2048 at a time.
  std::uint32_t max_embed_texts = 2048;
};

// What of a model bounds a request's fields.
struct ModelBounds {
  std::uint32_t context_tokens = 0;
  std::uint32_t vocabulary_size = 0;
};

// Everything that can be said without knowing the model. NOT_FOUND when an adapter is named: none
// can be served.
absl::Status CheckGenerateRequest(const v1::GenerateRequest& request, const RequestLimits& limits);

// Whether CheckConstraint takes no time: there is no constraint, it is none, or it is compiled.
bool IsConstraintAtHand(const v1::GenerateRequest& request, GrammarCache& grammars);
// The constraint, if there is one, can be held to: `grammars` keeps what it compiles to.
absl::Status CheckConstraint(const v1::GenerateRequest& request, GrammarCache& grammars);

// Token ids within the vocabulary, limits within the context.
absl::Status CheckAgainstModel(const v1::GenerateRequest& request, const ModelBounds& model);

absl::Status CheckEmbedRequest(const v1::EmbedRequest& request, const RequestLimits& limits);
// Inputs that are token ids; none at all is right.
absl::Status CheckEmbedInputs(const std::vector<std::vector<std::uint32_t>>& inputs,
                              const RequestLimits& limits, const ModelBounds& model);
absl::Status CheckTokenizeRequest(const v1::TokenizeRequest& request);
absl::Status CheckDetokenizeRequest(const v1::DetokenizeRequest& request, const ModelBounds& model);

// INVALID_ARGUMENT, reason CONTEXT_LENGTH_EXCEEDED, unless at least one new token fits behind the
// prompt. `max_new_tokens` 0: not given.
absl::Status CheckContextLength(std::uint64_t prompt_tokens, std::uint32_t max_new_tokens,
                                const ModelBounds& model);

}  // namespace yangtuo::gateway
