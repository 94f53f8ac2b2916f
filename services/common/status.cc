#include "services/common/status.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_format.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "services/common/utf8.h"

namespace yangtuo {
namespace {

constexpr char kErrorInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";
constexpr char kBadRequestUrl[] = "type.googleapis.com/google.rpc.BadRequest";
constexpr std::size_t kMaxMessageBytes = 1024;
// gRPC clients refuse trailers of more than 8 KiB, and the percent-encoded message beside the
// details can take 3 KiB: larger details would hide the error they explain.
constexpr std::size_t kMaxDetailsBytes = 4096;

template <typename Message>
absl::Status WithPayload(absl::Status status, const char* url, const Message& message) {
  status.SetPayload(url, absl::Cord(message.SerializeAsString()));
  return status;
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) {
    return grpc::Status::OK;
  }
  // The canonical codes have the same numbers on both sides.
  const auto code = static_cast<grpc::StatusCode>(status.code());
  std::string message = ToValidUtf8(std::string(status.message()), kMaxMessageBytes);
  google::rpc::Status details;
  details.set_code(static_cast<std::int32_t>(status.code()));
  details.set_message(message);
  status.ForEachPayload([&details](absl::string_view url, const absl::Cord& payload) {
    if (details.ByteSizeLong() + url.size() + payload.size() <= kMaxDetailsBytes) {
      google::protobuf::Any& any = *details.add_details();
      any.set_type_url(std::string(url));
      any.set_value(std::string(payload));
    }
  });
  if (details.details().empty()) {
    return {code, std::move(message)};
  }
  return {code, std::move(message), details.SerializeAsString()};
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) {
    return absl::OkStatus();
  }
  const int number = static_cast<int>(status.error_code());
  const bool known = number > 0 && number <= static_cast<int>(absl::StatusCode::kUnauthenticated);
  absl::Status result(known ? static_cast<absl::StatusCode>(number) : absl::StatusCode::kUnknown,
                      status.error_message());
  google::rpc::Status details;
  if (details.ParseFromString(status.error_details())) {
    for (const google::protobuf::Any& any : details.details()) {
      result.SetPayload(any.type_url(), absl::Cord(any.value()));
    }
  }
  return result;
}

absl::Status WithReason(absl::Status status, std::string_view reason,
                        const std::map<std::string, std::string>& metadata) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(reason));
  info.set_domain("yangtuo");
  for (const auto& [key, value] : metadata) {
    // Strings of a proto3 message are UTF-8; a reader of another language refuses anything else.
    (*info.mutable_metadata())[key] = ToValidUtf8(value, kMaxMessageBytes);
  }
  return WithPayload(std::move(status), kErrorInfoUrl, info);
}

absl::Status WithRetryAfter(absl::Status status, Duration delay) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(delay);
  google::rpc::RetryInfo info;
  info.mutable_retry_delay()->set_seconds(seconds.count());
  info.mutable_retry_delay()->set_nanos(static_cast<std::int32_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(delay - seconds).count()));
  return WithPayload(std::move(status), kRetryInfoUrl, info);
}

absl::Status InvalidField(std::string_view field, std::string_view description) {
  google::rpc::BadRequest bad;
  google::rpc::BadRequest::FieldViolation& violation = *bad.add_field_violations();
  violation.set_field(ToValidUtf8(field, kMaxMessageBytes));
  violation.set_description(ToValidUtf8(description, kMaxMessageBytes));
  return WithPayload(absl::InvalidArgumentError(absl::StrFormat("%s: %s", field, description)),
                     kBadRequestUrl, bad);
}

std::string ReasonOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kErrorInfoUrl);
  google::rpc::ErrorInfo info;
  if (!payload.has_value() || !info.ParseFromString(std::string(*payload))) {
    return "";
  }
  return info.reason();
}

}  // namespace yangtuo
