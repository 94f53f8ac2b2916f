#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/client_context.h"
#include "grpcpp/server_context.h"

namespace yangtuo {

// What travels with a request through every hop, as gRPC metadata.
struct RequestContext {
  std::string request_id = {};   // metadata "x-request-id"
  std::string traceparent = {};  // W3C trace context, metadata "traceparent"; may be empty
  std::string tracestate = {};   // goes with it; vendors' own; may be empty

  // Reads them; an absent request id stays empty.
  static RequestContext FromServer(const grpc::ServerContextBase& context);
  // Sets them on an outgoing call.
  void ApplyTo(grpc::ClientContext& context) const;
};

// 32 hexadecimal characters, random.
std::string NewRequestId();

// OK for 1..128 printable ASCII characters.
absl::Status CheckRequestId(const std::string& request_id);

}  // namespace yangtuo
