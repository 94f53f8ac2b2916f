// What reaches the tracing from outside: traceparent of any client, URL and resource attributes of
// the configuration, the collector's answer. Never a crash, and what is accepted means what it
// says.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "services/common/otlp_json.h"
#include "services/common/trace_context.h"

namespace {

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  yangtuo::SpanData span;
  if (const auto context = yangtuo::ParseTraceparent(text); context.has_value()) {
    const std::string written = yangtuo::ToTraceparent(*context);
    Require(written.substr(2, 51) == text.substr(2, 51));
    const auto again = yangtuo::ParseTraceparent(written);
    Require(again.has_value() && again->trace_id == context->trace_id &&
            again->span_id == context->span_id && again->sampled == context->sampled);
    span.context = *context;
  }
  if (const auto endpoint = yangtuo::ParseOtlpEndpoint(text); endpoint.ok()) {
    Require(!endpoint->host.empty() && endpoint->port != 0 && endpoint->path.front() == '/');
  }
  if (const auto attributes = yangtuo::ParseResourceAttributes(text); attributes.ok()) {
    span.attributes = *attributes;
  }
  span.name = std::string(text);
  Require(yangtuo::RejectedSpans(text) >= 0);
  Require(yangtuo::RejectedSpans(yangtuo::ToOtlpJson(span.attributes, {span})) == 0);
  return 0;
}
