#pragma once

#include <string>

#include "services/common/tracer.h"
#include "yangtuo/v1/generation.pb.h"

// What a request's span says, by OpenTelemetry's conventions for generative AI
// (https://github.com/open-telemetry/semantic-conventions-genai): kinds, numbers and names of
// models, never texts.
namespace yangtuo::gateway {

// "chat" or "text_completion".
std::string OperationOf(const v1::GenerateRequest& request);

// What was asked for, as far as the client said it.
void TraceRequest(const v1::GenerateRequest& request, const Span& span);
// The model that it goes to; also names the span.
void TraceModel(const std::string& operation, const std::string& model, const Span& span);
// How the answer ended.
void TraceFinished(const v1::Finished& finished, const Span& span);

}  // namespace yangtuo::gateway
