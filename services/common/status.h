#pragma once

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "inference_core/base/clock.h"

// The one mapping between absl::Status, which all our code uses, and gRPC's. Details travel as
// payloads of the absl::Status and as google.rpc.Status in grpc-status-details-bin
// (https://google.aip.dev/193). Messages are cut to 1 kB.
namespace yangtuo {

grpc::Status ToGrpc(const absl::Status& status);
absl::Status FromGrpc(const grpc::Status& status);

// Adds a google.rpc.ErrorInfo with domain "yangtuo". `reason` is UPPER_SNAKE_CASE and stable.
absl::Status WithReason(absl::Status status, std::string_view reason,
                        const std::map<std::string, std::string>& metadata = {});
// Adds a google.rpc.RetryInfo.
absl::Status WithRetryAfter(absl::Status status, Duration delay);
// INVALID_ARGUMENT with a google.rpc.BadRequest that names the field.
absl::Status InvalidField(std::string_view field, std::string_view description);

// The ErrorInfo reason, or "".
std::string ReasonOf(const absl::Status& status);

}  // namespace yangtuo
