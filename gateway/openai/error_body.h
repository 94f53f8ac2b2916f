#pragma once

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "gateway/openai/json_body.h"

// The one mapping from absl::Status to HTTP.
namespace yangtuo::gateway::openai {

struct HttpError {
  int status = 500;
  Json body{};  // {"error": {"message", "type", "param", "code"}}
  std::optional<int> retry_after_seconds{};
};

// Field paths of the gRPC request become the names of the HTTP API ("stop.max_new_tokens" is
// "max_tokens").
HttpError ToHttpError(const absl::Status& status);

}  // namespace yangtuo::gateway::openai
