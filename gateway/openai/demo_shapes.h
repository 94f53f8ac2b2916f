#pragma once

#include <string>

#include "absl/status/status.h"
#include "gateway/openai/error_body.h"
#include "gateway/openai/generate_request.h"
#include "gateway/openai/json_body.h"

// What the demo servers of Chinese-LLaMA-Alpaca take and answer, for scripts written for them. They
// are like OpenAI's API, but: any model name goes; a completion's prompt is an instruction, never
// raw text; a chat's answer repeats the dialogue before it; a list of texts to embed becomes one
// item with a list of vectors; no usage; errors as FastAPI has them. Pure functions between these
// shapes and ours.
namespace yangtuo::gateway::openai {

// Their sampling defaults, where the body has none; members that they ignore are taken out.
void TakeDemoDefaults(Json& body);
// Every text prompt becomes a conversation of one message.
void WrapPrompts(GenerateCall& call);

// From the whole answer to `body`.
Json DemoAnswer(const Json& body, const Json& answer);
// From events as StreamedAnswer makes them.
std::string DemoEvents(const std::string& events);
Json DemoEmbeddings(const Json& body, const Json& answer);
HttpError DemoError(const absl::Status& status);

}  // namespace yangtuo::gateway::openai
