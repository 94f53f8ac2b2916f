#include "gateway/openai/error_body.h"

#include <algorithm>
#include <map>
#include <utility>

#include "google/rpc/error_details.pb.h"
#include "services/common/status.h"

namespace yangtuo::gateway::openai {
namespace {

int HttpStatusOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
      return 400;
    case absl::StatusCode::kUnauthenticated:
      return 401;
    case absl::StatusCode::kPermissionDenied:
      return 403;
    case absl::StatusCode::kNotFound:
      return 404;
    case absl::StatusCode::kResourceExhausted:
      return 429;
    case absl::StatusCode::kCancelled:
      return 499;
    case absl::StatusCode::kUnimplemented:
      return 501;
    case absl::StatusCode::kUnavailable:
      return 503;
    case absl::StatusCode::kDeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    case 504:
      return "timeout_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

// Codes that clients look for; any other reason goes out in lower case.
std::string CodeOf(const std::string& reason) {
  static const std::map<std::string, std::string> kKnown = {
      {"INVALID_FIELD", "invalid_value"},
      {"UNSUPPORTED_FIELD", "unsupported_parameter"},
      {"CONTEXT_LENGTH_EXCEEDED", "context_length_exceeded"},
      {"QUEUE_FULL", "rate_limit_exceeded"},
      {"TOKENS_FULL", "rate_limit_exceeded"},
      {"TENANT_REQUESTS", "rate_limit_exceeded"},
      {"REQUEST_RATE", "rate_limit_exceeded"},
      {"TOKEN_RATE", "rate_limit_exceeded"},
      {"MODEL_NOT_FOUND", "model_not_found"},
      {"INVALID_API_KEY", "invalid_api_key"},
  };
  const auto known = kKnown.find(reason);
  if (known != kKnown.end()) {
    return known->second;
  }
  std::string lower = reason;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return lower;
}

std::string PublicField(std::string field) {
  static const std::map<std::string, std::string> kNames = {
      {"stop.max_new_tokens", "max_tokens"},
      {"stop.min_new_tokens", "min_tokens"},
      {"stop.stop_strings", "stop"},
      {"stop.stop_token_ids", "stop_token_ids"},
      {"stop.ignore_eos", "ignore_eos"},
      // Clients have several names for each of these.
      {"sampling.constraint.json_object", "json_object"},
      {"sampling.constraint.json_schema", "json_schema"},
      {"sampling.constraint.regex", "regex"},
      {"sampling.constraint.grammar", "grammar"},
      {"sampling.constraint.choices", "choice"},
      {"text", "prompt"},
      {"token_ids.ids", "prompt"},
      {"token_ids", "tokens"},
      {"texts", "input"},
      {"inputs", "input"},
  };
  const std::size_t bracket = std::min(field.find('['), field.size());
  const auto known = kNames.find(field.substr(0, bracket));
  if (known != kNames.end()) {
    return known->second + field.substr(bracket);
  }
  for (const char* prefix : {"sampling.", "chat."}) {
    if (field.rfind(prefix, 0) == 0) {
      return field.substr(std::string(prefix).size());
    }
  }
  return field;
}

template <typename Detail>
std::optional<Detail> DetailOf(const absl::Status& status) {
  const auto payload =
      status.GetPayload("type.googleapis.com/" + Detail::descriptor()->full_name());
  Detail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) {
    return std::nullopt;
  }
  return detail;
}

}  // namespace

HttpError ToHttpError(const absl::Status& status) {
  HttpError error{.status = HttpStatusOf(status.code())};
  std::string message(status.message());
  Json param = nullptr;
  if (const auto bad = DetailOf<google::rpc::BadRequest>(status);
      bad.has_value() && bad->field_violations_size() > 0) {
    message.clear();
    for (const auto& violation : bad->field_violations()) {
      const std::string field = PublicField(violation.field());
      message += (message.empty() ? "" : "; ") + field + ": " + violation.description();
    }
    param = PublicField(bad->field_violations(0).field());
  }
  if (const auto retry = DetailOf<google::rpc::RetryInfo>(status); retry.has_value()) {
    // Rounded up: a client that comes back too early is refused again.
    error.retry_after_seconds = static_cast<int>(retry->retry_delay().seconds()) +
                                (retry->retry_delay().nanos() > 0 ? 1 : 0);
  } else if (error.status == 503 || error.status == 429) {
    error.retry_after_seconds = 1;
  }
  const std::string reason = ReasonOf(status);
  error.body = {{"error",
                 {{"message", message},
                  {"type", TypeOf(error.status)},
                  {"param", std::move(param)},
                  {"code", reason.empty() ? Json(nullptr) : Json(CodeOf(reason))}}}};
  return error;
}

}  // namespace yangtuo::gateway::openai
