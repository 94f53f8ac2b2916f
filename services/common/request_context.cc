#include "services/common/request_context.h"

#include <algorithm>
#include <array>
#include <random>

#include "absl/strings/str_format.h"
#include "services/common/trace_context.h"

namespace yangtuo {
namespace {

constexpr char kRequestIdKey[] = "x-request-id";
constexpr char kTraceparentKey[] = "traceparent";
constexpr char kTracestateKey[] = "tracestate";
constexpr std::size_t kMaxRequestIdBytes = 128;

bool IsPrintableAscii(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
}

std::string MetadataValue(const grpc::ServerContextBase& context, const char* key) {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

}  // namespace

RequestContext RequestContext::FromServer(const grpc::ServerContextBase& context) {
  return {.request_id = MetadataValue(context, kRequestIdKey),
          .traceparent = MetadataValue(context, kTraceparentKey),
          .tracestate = MetadataValue(context, kTracestateKey)};
}

void RequestContext::ApplyTo(grpc::ClientContext& context) const {
  // gRPC fails a whole call because of one illegal metadata value; losing the value is better.
  if (CheckRequestId(request_id).ok()) {
    context.AddMetadata(kRequestIdKey, request_id);
  }
  if (!traceparent.empty() && IsPrintableAscii(traceparent)) {
    context.AddMetadata(kTraceparentKey, traceparent);
    if (IsValidTracestate(tracestate)) {
      context.AddMetadata(kTracestateKey, tracestate);
    }
  }
}

std::string NewRequestId() {
  std::random_device entropy;
  std::string id;
  for (int i = 0; i < 4; ++i) {
    id += absl::StrFormat("%08x", entropy());
  }
  return id;
}

absl::Status CheckRequestId(const std::string& request_id) {
  if (request_id.empty() || request_id.size() > kMaxRequestIdBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a request id has 1 to %d characters, this one %d", kMaxRequestIdBytes, request_id.size()));
  }
  if (!IsPrintableAscii(request_id)) {
    return absl::InvalidArgumentError("a request id has printable ASCII characters only");
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
