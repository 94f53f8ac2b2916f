#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "services/common/trace_context.h"

// OpenTelemetry's span and its JSON form (https://opentelemetry.io/docs/specs/otlp, "JSON Protobuf
// Encoding"): ids in hexadecimal, 64-bit numbers as strings, enumerations as numbers. Pure
// functions.
namespace yangtuo {

// The protocol's numbers.
enum class SpanKind { kInternal = 1, kServer = 2, kClient = 3 };

using AttributeValue =
    std::variant<std::string, bool, std::int64_t, double, std::vector<std::string>>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

// A span that has ended.
struct SpanData {
  TraceContext context = {};
  std::optional<SpanId> parent = {};
  std::string tracestate = {};
  std::string name = {};
  SpanKind kind = SpanKind::kInternal;
  std::uint64_t start_unix_ns = 0;
  std::uint64_t end_unix_ns = 0;
  Attributes attributes = {};
  bool failed = false;  // status ERROR; else unset
};

// One ExportTraceServiceRequest. `resource` describes the process. Bytes that are not UTF-8 are
// replaced.
std::string ToOtlpJson(const Attributes& resource, const std::vector<SpanData>& spans);

// How many spans of an accepted request the collector says it threw away all the same. 0 when the
// answer is empty, or not what the protocol says.
std::int64_t RejectedSpans(std::string_view response);

// Where spans are sent.
struct OtlpEndpoint {
  bool tls = false;
  std::string host = {};  // without the brackets of an IPv6 address
  std::uint16_t port = 0;
  std::string path = {};  // of the traces, such as "/v1/traces"
};

// A base URL as OTEL_EXPORTER_OTLP_ENDPOINT holds it, http://collector:4318, to which /v1/traces is
// added unless it ends like that. INVALID_ARGUMENT shows what was expected.
absl::StatusOr<OtlpEndpoint> ParseOtlpEndpoint(std::string_view url);

// "key=value,key=value" with percent-encoded values, as OTEL_RESOURCE_ATTRIBUTES holds it.
// INVALID_ARGUMENT names the entry.
absl::StatusOr<Attributes> ParseResourceAttributes(std::string_view text);

}  // namespace yangtuo
