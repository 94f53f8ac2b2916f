#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/openai/json_body.h"
#include "yangtuo/v1/generation.pb.h"

// Bodies and answers of all endpoints but the generating ones.
namespace yangtuo::gateway::openai {

enum class VectorEncoding { kFloats, kBase64 };

struct EmbedCall {
  v1::EmbedRequest request{};
  // When not empty: the inputs as token ids, instead of texts.
  std::vector<std::vector<std::uint32_t>> token_inputs{};
  VectorEncoding encoding = VectorEncoding::kFloats;
  std::uint32_t dimensions = 0;  // 0: all
};
absl::StatusOr<EmbedCall> ParseEmbedCall(const Json& body);
// INVALID_ARGUMENT for more dimensions than a vector has. Fewer: the first ones, at unit length
// again.
absl::StatusOr<Json> EmbedAnswer(const EmbedCall& call, const v1::EmbedResponse& response);

// {"prompt"} or {"messages"} as vLLM's clients send it, {"content"} as llama.cpp's do.
absl::StatusOr<v1::TokenizeRequest> ParseTokenizeCall(const Json& body);
Json TokenizeAnswer(const v1::TokenizeResponse& response, std::uint32_t context_tokens);
// {"tokens"}; the answer has the text under every name that clients look for.
absl::StatusOr<v1::DetokenizeRequest> ParseDetokenizeCall(const Json& body);
Json DetokenizeAnswer(const v1::DetokenizeResponse& response);

// `created`: Unix seconds since when the models are served.
Json ModelJson(const v1::Model& model, std::int64_t created);
Json ModelsAnswer(const v1::ListModelsResponse& response, std::int64_t created);

}  // namespace yangtuo::gateway::openai
