#include "tools/common/error_text.h"

#include <optional>
#include <string_view>

#include "absl/strings/cord.h"
#include "absl/strings/str_format.h"
#include "google/rpc/error_details.pb.h"
#include "services/common/status.h"

namespace yangtuo {
namespace {

constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

std::optional<double> RetryAfterSeconds(const absl::Status& status) {
  const auto payload = status.GetPayload(kRetryInfoUrl);
  google::rpc::RetryInfo retry;
  if (!payload || !retry.ParseFromString(std::string(*payload))) {
    return std::nullopt;
  }
  return static_cast<double>(retry.retry_delay().seconds()) +
         static_cast<double>(retry.retry_delay().nanos()) * 1e-9;
}

std::string WhenToRetry(const absl::Status& status) {
  const auto seconds = RetryAfterSeconds(status);
  return seconds && *seconds > 0 ? absl::StrFormat("retry in %.3g s", *seconds)
                                 : "retry in a moment";
}

// UNAVAILABLE without a reason comes from gRPC itself: the gateway was not reached.
std::string DescribeUnreached(const std::string& message, const std::string& server) {
  const auto says = [&](std::string_view part) { return message.find(part) != std::string::npos; };
  if (says("DNS resolution failed") || says("could not resolve")) {
    return absl::StrFormat(
        "the name in \"%s\" cannot be resolved: check --server (or YANGTUO_SERVER)", server);
  }
  if (says("Connection refused") || says("failed to connect") || says("No such file")) {
    return absl::StrFormat(
        "no gateway answers at %s: start a cluster with `yangtuo up`, or name another one with "
        "--server (or YANGTUO_SERVER)",
        server);
  }
  return absl::StrFormat(
      "the connection to %s broke (%s): check that it is the gRPC port of a gateway, and give "
      "--tls-ca if it uses TLS",
      server, message);
}

}  // namespace

std::string CodeName(const absl::Status& status) { return absl::StatusCodeToString(status.code()); }

std::string DescribeError(const absl::Status& status, const std::string& server) {
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
      return ReasonOf(status).empty() ? DescribeUnreached(message, server)
                                      : absl::StrFormat("the cluster cannot answer now: %s (%s)",
                                                        message, WhenToRetry(status));
    case absl::StatusCode::kResourceExhausted:
      return absl::StrFormat("the cluster is full: %s (%s)", message, WhenToRetry(status));
    case absl::StatusCode::kDeadlineExceeded:
      return absl::StrFormat(
          "%s did not finish in time: give more with --timeout, or look at `yangtuo status`",
          server);
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      return absl::StrFormat("the request was refused: %s", message);
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
      return absl::StrFormat("%s does not let you in: %s", server, message);
    case absl::StatusCode::kUnimplemented:
      return absl::StrFormat(
          "%s does not know this call: it must be the address of a gateway, not of a tokenizer or "
          "worker",
          server);
    case absl::StatusCode::kCancelled:
      return "the call was cancelled";
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDataLoss:
      return absl::StrFormat("the cluster failed: %s (its logs say more: `yangtuo status`)",
                             message.empty() ? CodeName(status) : message);
    default:
      return message.empty() ? CodeName(status) : message;
  }
}

}  // namespace yangtuo
